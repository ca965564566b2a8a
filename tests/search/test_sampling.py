from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from operator_cases import Case, cases
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.search import CostConstraints
from nas_llm.space import CostModel, Genome, SearchSpace


@settings(max_examples=25, deadline=None)
@given(cases(aligned=True, constrained=True), st.integers(1, 15))
def test_samples_are_distinct_feasible_and_reproducible(case: Case, count: int) -> None:
    sampling = case.operators().sampling
    genomes = sampling.draw(count, case.rng)
    assert 1 <= len(genomes) <= count
    assert len({genome.digest() for genome in genomes}) == len(genomes)
    assert genomes == sampling.draw(count, case.rng)
    constraints = CostConstraints(case.constraints)
    for genome in genomes:
        assert case.space.violations(genome) == []
        assert constraints.satisfied(case.cost_model(genome))


def wide_case(**constraints: float) -> Case:
    sizes = architecture(num_layers=12, intermediate_size=256)
    space = SearchSpace(sizes, ffn_multiple=8)
    section = ConstraintSection(**constraints)
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), section, 0)


@pytest.mark.parametrize("constraints", [{}, {"min_ratio": 0.5}, {"min_ratio": 0.4, "max_ratio": 0.8}])
def test_the_first_population_covers_the_ratios_evenly(constraints: dict[str, float]) -> None:
    case = wide_case(**constraints)
    genomes = case.operators().sampling.draw(40, case.rng)
    assert len(genomes) == 40
    ratios = np.sort([case.cost_model(genome).inheriting_ratio for genome in genomes])
    assert ratios[0] == pytest.approx(constraints.get("min_ratio", ratios[0]), abs=0.01)
    assert ratios[-1] == pytest.approx(constraints.get("max_ratio", 1.0), abs=0.01)
    span = ratios[-1] - ratios[0]
    assert np.diff(ratios).max() < 0.12 * span
    assert np.histogram(ratios, bins=4)[0].min() >= 5


def test_the_dense_model_comes_first_and_anchors_take_from_the_ffn() -> None:
    case = wide_case(min_ratio=0.5)
    sampling = case.operators().sampling
    assert sampling.draw(5, case.rng)[0] == Genome.dense(case.space.architecture)
    for ratio in np.linspace(0.3, 1.0, 15):
        anchor = sampling.anchor(float(ratio))
        assert case.cost_model(anchor).inheriting_ratio == pytest.approx(ratio, abs=0.01)
        assert anchor.kv_groups.min() == 3
        assert np.ptp(anchor.ffn_channels) <= 8
        for layer, count in enumerate(anchor.ffn_channels.tolist()):
            assert np.array_equal(anchor.mlp_mask[layer], case.scores.top_mlp(layer, count))
    low = sampling.anchor(0.12)
    assert low.kv_groups.min() < 3
    assert (low.ffn_channels == case.space.mlp_low).all()


def test_the_initial_subnet_has_one_gamma() -> None:
    case = wide_case()
    subnet = case.operators().sampling.initial_subnet(2 / 3)
    assert set(subnet.kv_groups.tolist()) == {2}
    assert set(subnet.ffn_channels.tolist()) == {168}


def test_tiny_spaces_yield_what_they_have() -> None:
    sizes = architecture(num_layers=1, num_heads=1, num_kv_heads=1, intermediate_size=8)
    space = SearchSpace(sizes, ffn_multiple=8)
    case = Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), ConstraintSection(), 0)
    assert case.operators().sampling.draw(10, case.rng) == [Genome.dense(sizes)]
