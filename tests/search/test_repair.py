from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from operator_cases import PROPERTY, Case, cases
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.errors import SpaceError
from nas_llm.search import CostConstraints, GenomeRepair, check_feasible
from nas_llm.space import CostModel, Genome, SearchSpace


@PROPERTY
@given(cases())
def test_anything_is_brought_into_the_space(case: Case) -> None:
    genome = case.outside()
    repaired = case.repair(genome, rng=case.rng)
    assert case.space.violations(repaired) == []
    assert case.repair(genome, rng=case.rng) == repaired
    assert case.repair(repaired, rng=case.rng) is repaired


@PROPERTY
@given(cases(aligned=True, constrained=True))
def test_anything_is_brought_into_the_constraints(case: Case) -> None:
    constraints = CostConstraints(case.constraints)
    for genome in (case.outside(), case.inside(1), case.inside(2)):
        repaired = case.repair(genome, rng=case.rng)
        assert case.space.violations(repaired) == []
        assert constraints.satisfied(case.cost_model(repaired)), (case.constraints, case.cost_model(repaired))
        assert case.repair(repaired, rng=case.rng) is repaired
        if constraints.satisfied(case.cost_model(genome)) and case.space.contains(genome):
            assert repaired is genome


@PROPERTY
@given(cases(constrained=True))
def test_masks_stay_nested_in_the_old_ones(case: Case) -> None:
    genome = case.outside()
    repaired = case.repair(genome, rng=case.rng)
    for name in ("attn_mask", "mlp_mask"):
        old, new = getattr(genome, name), getattr(repaired, name)
        shared = (old & new).sum(axis=1)
        assert (shared == np.minimum(old.sum(axis=1), new.sum(axis=1))).all()


@pytest.fixture
def wide() -> Case:
    sizes = architecture(num_layers=8)
    space = SearchSpace(sizes, ffn_multiple=4)
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), ConstraintSection(), 0)


def test_the_change_is_as_small_as_the_grain_allows(wide: Case) -> None:
    """Only FFN channels move, every layer gives its share, and the bound is hit to within one step."""
    dense = Genome.dense(wide.space.architecture)
    repair = wide._replace(constraints=ConstraintSection(max_ratio=0.8)).repair
    repaired = repair(dense, rng=np.random.default_rng(0))
    ratio = wide.cost_model(repaired).inheriting_ratio
    step = 4 * wide.cost_model.params_per_ffn_channel / wide.cost_model.dense.block_params
    assert 0.8 - step < ratio <= 0.8
    assert repaired.kv_groups.tolist() == dense.kv_groups.tolist()
    given_up = 64 - repaired.ffn_channels
    assert given_up.min() >= 4
    assert given_up.max() <= 2.5 * given_up.mean()


def test_cache_constraint_takes_kv_groups_and_leaves_the_ffn(wide: Case) -> None:
    dense = Genome.dense(wide.space.architecture)
    limit = wide.cost_model.dense.kv_cache_bytes // 2
    repaired = wide._replace(constraints=ConstraintSection(max_kv_cache_bytes=limit)).repair(dense, rng=wide.rng)
    assert wide.cost_model(repaired).kv_cache_bytes == limit
    assert repaired.ffn_channels.tolist() == dense.ffn_channels.tolist()


def test_growing_restores_the_most_important_units(wide: Case) -> None:
    small = Genome(
        np.stack([wide.scores.top_attn(layer, 1) for layer in range(8)]),
        np.stack([wide.scores.top_mlp(layer, 8) for layer in range(8)]),
    )
    repaired = wide._replace(constraints=ConstraintSection(min_ratio=0.6)).repair(small, rng=wide.rng)
    assert wide.cost_model(repaired).inheriting_ratio >= 0.6
    for layer, count in enumerate(repaired.ffn_channels.tolist()):
        assert np.array_equal(repaired.mlp_mask[layer], wide.scores.top_mlp(layer, count))


def test_sublayers_leave_only_when_nothing_else_helps() -> None:
    sizes = architecture()
    space = SearchSpace(sizes, ffn_multiple=4, mlp_ratio=(0.5, 1.0), min_attn_layers=2, min_mlp_layers=2)
    model = CostModel(sizes, sequence_length=16)
    dense = Genome.dense(sizes)
    for ratio, removed in ((0.6, False), (0.25, True)):
        constraints = CostConstraints(ConstraintSection(max_ratio=ratio))
        repaired = GenomeRepair(space, unit_scores(sizes), model, constraints)(dense, rng=np.random.default_rng(1))
        assert model(repaired).inheriting_ratio <= ratio
        assert space.contains(repaired)
        assert bool((repaired.kv_groups == 0).any() or (repaired.ffn_channels == 0).any()) == removed


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({"max_ratio": 0.05}, r"constraints.max_ratio = 0.05 cannot be met: .* inheriting_ratio from 0\.\d+ to 1"),
        ({"max_params": 10}, "constraints.max_params = 10 cannot be met"),
        ({"max_kv_cache_bytes": 1}, "constraints.max_kv_cache_bytes"),
        ({"min_ratio": 0.9, "max_macs_per_token": 12_000}, "cannot be met together"),
        ({"min_ratio": 0.90001, "max_ratio": 0.90002}, "cannot be met together"),
    ],
)
def test_what_nothing_can_meet_is_refused(wide: Case, constraints: dict[str, float], said: str) -> None:
    with pytest.raises(SpaceError, match=said) as error:
        check_feasible(wide.space, wide.cost_model, CostConstraints(ConstraintSection(**constraints)))
    assert "\n" not in str(error.value)


def test_floor_above_the_space_is_refused() -> None:
    sizes = architecture()
    space = SearchSpace(sizes, ffn_multiple=4, mlp_ratio=(0.1, 0.5))
    with pytest.raises(SpaceError, match=r"min_ratio = 0\.9"):
        check_feasible(space, CostModel(sizes, sequence_length=16), CostConstraints(ConstraintSection(min_ratio=0.9)))


def test_what_something_meets_is_let_through(wide: Case) -> None:
    dense = wide.cost_model.dense
    section = ConstraintSection(min_ratio=0.5, max_macs_per_token=dense.macs_per_token, max_params=dense.params)
    check_feasible(wide.space, wide.cost_model, CostConstraints(section))
    check_feasible(wide.space, wide.cost_model, CostConstraints())
