"""Uniform models of the size of a point."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import Case, cases

from nas_llm.search.operators import build_repair, uniform_genomes


@settings(max_examples=40, deadline=None)
@given(cases(aligned=True, constrained=False), st.floats(0.3, 1.0))
def test_uniform_models_are_no_larger_and_as_near_as_their_steps_allow(case: Case, ratio: float) -> None:
    repair = build_repair(case.space, case.scores, case.cost_model, case.constraints)
    found = uniform_genomes(repair, ratio)
    assert set(found) <= {"FFN first", "everything"}
    assert len(set(found.values())) == len(found)
    shape = case.space.architecture
    step = case.space.ffn_multiple * case.cost_model.params_per_ffn_channel / case.cost_model.dense.block_params
    for name, genome in found.items():
        assert case.space.violations(genome) == []
        reached = case.cost_model(genome).inheriting_ratio
        assert reached <= ratio
        channels, layers = genome.ffn_channels, shape.num_layers
        room = (case.space.mlp_high - channels >= case.space.ffn_multiple).all()
        inside = (channels > case.space.mlp_low).all() and room
        if name == "FFN first" and inside:
            # Layers differ by a step at most, and another step would be too much.
            assert channels.max() - channels.min() <= case.space.ffn_multiple
            assert ratio - reached <= (1 + layers * 1e-9) * step + 1e-9
        if name == "everything" and inside:
            assert channels.max() == channels.min()
            assert ratio - reached <= layers * step + shape.num_layers * case.cost_model.params_per_kv_group / (
                case.cost_model.dense.block_params
            )
        for layer, row in enumerate(genome.mlp_mask):
            kept = case.scores.mlp[layer][row]
            assert kept.size == 0 or np.sort(case.scores.mlp[layer])[-kept.size :].sum() <= kept.sum() + 1e-9


def test_nothing_is_as_small_as_nothing() -> None:
    from test_sampling import wide_case

    case = wide_case()
    repair = build_repair(case.space, case.scores, case.cost_model, case.constraints)
    assert uniform_genomes(repair, 0.01) == {}
