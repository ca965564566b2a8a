"""The fastest float32 matrix product that is still float32."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch.nn import functional


@contextmanager
def fast_float32(device: torch.device) -> Iterator[None]:
    """Use torch's "medium" matmul setting on a CPU where it is exact, and restore the old setting after.

    The setting selects another library path that is up to three times faster on some CPUs with the same error, but
    on CPUs with bfloat16 matrix units it may round the inputs: so it is tried on a small product first. On CUDA
    nothing is changed.
    """
    if device.type != "cpu" or not _medium_is_exact():
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@cache
def bfloat16_is_faster() -> bool:
    """Whether this CPU multiplies bfloat16 matrices at least a quarter faster than float32 ones (one measurement)."""
    device = torch.device("cpu")
    rates = {}
    with fast_float32(device):
        for dtype in (torch.float32, torch.bfloat16):
            rates[dtype] = matmul_rate(device, dtype, rows=512, inner=512, columns=1024)
    return rates[torch.bfloat16] > 1.25 * rates[torch.float32]


def matmul_rate(
    device: torch.device, dtype: torch.dtype, *, rows: int, inner: int, columns: int, repeats: int = 5
) -> float:
    """Best measured rate of ``rows x inner`` times ``inner x columns``, in multiply-accumulates per second."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(rows, inner, generator=generator).to(device, dtype)
    b = torch.randn(columns, inner, generator=generator).to(device, dtype)
    best = math.inf
    with torch.inference_mode():
        functional.linear(a, b)
        for _ in range(repeats):
            _wait(device)
            started = time.perf_counter()
            functional.linear(a, b)
            _wait(device)
            best = min(best, time.perf_counter() - started)
    return rows * inner * columns / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def _medium_is_exact() -> bool:
    before = torch.get_float32_matmul_precision()
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 256, 256, generator=generator)
    torch.set_float32_matmul_precision("medium")
    try:
        product = a @ b
    finally:
        torch.set_float32_matmul_precision(before)
    exact = a.double() @ b.double()
    return bool((product.double() - exact).norm() / exact.norm() < 1e-6)
