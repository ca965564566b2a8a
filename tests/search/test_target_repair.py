"""Repair to a few inheriting ratios."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from operator_cases import PROPERTY, Case, cases
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.errors import SpaceError
from nas_llm.search import ImportanceSampling, TargetRepair
from nas_llm.space import CostModel, Genome, SearchSpace

TARGETS = (0.8, 0.6)


def _repair(case: Case, targets: tuple[float, ...] = TARGETS) -> TargetRepair:
    return TargetRepair(targets, case.space, case.scores, case.cost_model, case.constraints)


@pytest.fixture
def wide() -> Case:
    sizes = architecture(num_layers=8)
    space = SearchSpace(sizes, ffn_multiple=4)
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), ConstraintSection(), 0)


@pytest.mark.parametrize("seed", range(20))
def test_genomes_end_within_a_step_below_a_target(wide: Case, seed: int) -> None:
    repair, rng = _repair(wide), np.random.default_rng(seed)
    dense = Genome.dense(wide.space.architecture)
    genome = dense.with_rows(mlp=[(layer, rng.random(dense.mlp_mask.shape[1]) < rng.random()) for layer in range(8)])
    before = wide.cost_model(genome).inheriting_ratio
    repaired = repair(genome, rng=rng)
    ratio = wide.cost_model(repaired).inheriting_ratio
    step = 4 * wide.cost_model.params_per_ffn_channel / wide.cost_model.dense.block_params
    nearest = min(TARGETS, key=lambda target: abs(target - before))
    assert nearest - step <= ratio <= nearest
    assert wide.space.violations(repaired) == []
    assert repair.accepts(repaired)
    assert repair(repaired, rng=rng) is repaired


@PROPERTY
@given(cases(aligned=True))
def test_every_space_is_kept(case: Case) -> None:
    try:
        repair = _repair(case, (0.9,))
    except SpaceError:
        return
    repaired = repair(case.outside(), rng=case.rng)
    assert case.space.violations(repaired) == []
    assert repair(repaired, rng=case.rng) is repaired


def test_a_target_that_nothing_meets_is_refused(wide: Case) -> None:
    with pytest.raises(SpaceError):
        _repair(wide._replace(constraints=ConstraintSection(max_macs_per_token=1)))


def test_anchors_lie_at_the_targets(wide: Case) -> None:
    repair = _repair(wide)
    drawn = ImportanceSampling(repair).draw(12, np.random.default_rng(0))
    ratios = {min(TARGETS, key=lambda t: abs(t - wide.cost_model(genome).inheriting_ratio)) for genome in drawn}
    assert ratios == set(TARGETS)
    assert all(repair.accepts(genome) for genome in drawn)
