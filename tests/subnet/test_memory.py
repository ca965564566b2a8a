"""Shares of a memory budget add up, and freed memory is kept."""

from __future__ import annotations

import platform

import pytest
import torch
from dense_models import dense_model
from hypothesis import given
from hypothesis import strategies as st

from nas_llm.errors import ConfigError
from nas_llm.subnet._allocator import keep_freed_memory
from nas_llm.subnet._memory import least_memory, plan_memory

CPU = torch.device("cpu")


@given(st.integers(10_000, 10_000_000), st.sampled_from([16, 64, 128]), st.booleans(), st.booleans())
def test_a_plan_stays_under_its_budget_or_is_refused(total: int, window: int, refitted: bool, half: bool) -> None:
    dense = dense_model("llama-gqa-tied")
    dtype = torch.bfloat16 if half else torch.float32
    blocks = sum(weight.nbytes for weight in dense.adapter.layers(dense.model).parameters()) * dtype.itemsize // 4
    try:
        plan = plan_memory(dense, total=total, window=window, device=CPU, dtype=dtype, refitted=refitted)
    except ConfigError:
        assert total < 2_000_000
        return
    own = blocks if plan.resident and half else 0
    assert plan.blocks + plan.states + own <= total
    assert plan.batch_tokens >= window
    assert plan.states >= 0


def test_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")


def test_a_budget_too_small_for_a_window_is_named() -> None:
    with pytest.raises(ConfigError, match=r"one window of 64 tokens.*lower data.window"):
        plan_memory(dense_model("opt"), total=1000, window=64, device=CPU, dtype=torch.float32, refitted=False)


def test_the_least_memory_is_the_least_that_a_plan_takes() -> None:
    dense = dense_model("opt")
    least = least_memory(dense.architecture, window=64, dtype=torch.float32)
    plan_memory(dense, total=least, window=64, device=CPU, dtype=torch.float32, refitted=False)
    with pytest.raises(ConfigError):
        plan_memory(dense, total=least - 1, window=64, device=CPU, dtype=torch.float32, refitted=False)
