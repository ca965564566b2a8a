from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_cases import PROPERTY, Case, cases

from nas_llm.errors import ConfigError
from nas_llm.search import LayerwiseCrossover
from nas_llm.space import Genome


@PROPERTY
@given(cases(), st.sampled_from(["uniform", "one_point"]))
def test_every_row_comes_from_a_parent_at_its_layer_and_none_is_lost(case: Case, kind: str) -> None:
    first, second = case.inside(1), case.inside(2)
    crossover = LayerwiseCrossover(kind)  # type: ignore[arg-type]
    one, two = crossover(first, second, rng=case.rng)
    assert (one, two) == crossover(first, second, rng=case.rng)
    for name in ("attn_mask", "mlp_mask"):
        for layer in range(first.num_layers):
            parents = sorted([getattr(first, name)[layer].tolist(), getattr(second, name)[layer].tolist()])
            assert sorted([getattr(one, name)[layer].tolist(), getattr(two, name)[layer].tolist()]) == parents


def test_uniform_chooses_attention_and_ffn_apart_and_one_point_cuts_both() -> None:
    first, second = _two_parents()
    seen = set()
    for seed in range(40):
        child, _ = LayerwiseCrossover("uniform")(first, second, rng=np.random.default_rng(seed))
        seen.add((tuple(child.attn_mask[:, 0].tolist()), tuple(child.mlp_mask[:, 0].tolist())))
    assert any(attn != mlp for attn, mlp in seen)
    assert len(seen) > 30
    cuts = set()
    for seed in range(40):
        child, _ = LayerwiseCrossover("one_point")(first, second, rng=np.random.default_rng(seed))
        attn, mlp = child.attn_mask[:, 0].tolist(), child.mlp_mask[:, 0].tolist()
        assert attn == mlp == sorted(attn, reverse=True)
        cuts.add(sum(attn))
    assert cuts == {1, 2, 3, 4, 5}


def _two_parents() -> tuple[Genome, Genome]:
    ones, zeros = np.ones((6, 2), dtype=bool), np.zeros((6, 2), dtype=bool)
    return Genome(ones, ones), Genome(zeros, zeros)


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="two_point"):
        LayerwiseCrossover("two_point")  # type: ignore[arg-type]
