"""The descent on a loss whose best allocation is known, and the moves that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import numpy as np
import pytest
from operator_cases import Case
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.search import BudgetDescent, DescentStep, ImportanceSampling, TargetRepair
from nas_llm.search.descent import descent_effort
from nas_llm.search.descent._allocation import Allocation
from nas_llm.space import CostModel, FloatArray, Genome, Marginals, SearchSpace

STEP = 4
TARGETS = (0.85, 0.7)
LOOKS = 6


class Separable:
    """A loss that is a sum over sublayers; the true marginals of it, and prices that are counted."""

    def __init__(self, case: Case, attn: FloatArray, mlp: FloatArray) -> None:
        self.sizes = case.space.architecture
        self.attn, self.mlp = attn, mlp
        self.priced = 0
        self.turns: list[int] = []

    def loss(self, groups: Sequence[float] | FloatArray, channels: Sequence[float] | FloatArray) -> float:
        a, lost = self.sizes, 1.0 - np.asarray(channels) / self.sizes.intermediate_size
        return float((self.attn * (1.0 - np.asarray(groups) / a.num_kv_heads)).sum() + (self.mlp * lost**1.5).sum())

    def price(self, genomes: Sequence[Genome]) -> list[float]:
        self.priced += len(genomes)
        return [self.loss(genome.kv_groups, genome.ffn_channels) for genome in genomes]

    def marginals(self, genome: Genome, turn: int) -> Marginals:
        self.turns.append(turn)
        own = self.loss(genome.kv_groups, genome.ffn_channels)
        found = np.full((2, genome.num_layers), np.nan)
        for row, layer in product(range(2), range(genome.num_layers)):
            channels = genome.ffn_channels.astype(float)
            channels[layer] += (-STEP, STEP)[row]
            if 0 <= channels[layer] <= self.sizes.intermediate_size:
                found[row, layer] = self.loss(genome.kv_groups, channels) - own
        return Marginals(mlp_less=found[0], mlp_more=found[1], step=STEP)


@pytest.fixture
def case() -> Case:
    sizes = architecture(num_layers=8)
    space = SearchSpace(sizes, ffn_multiple=STEP, min_attn_layers=6)
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=16), ConstraintSection(), 0)


@pytest.fixture
def world(case: Case) -> Separable:
    rng = np.random.default_rng(7)
    # Two layers whose attention only does harm, others whose attention is dear.
    attn = np.where(np.arange(8) < 2, -0.2, 5.0)
    return Separable(case, attn, rng.lognormal(sigma=1.0, size=8))


def _descent(case: Case, world: Separable) -> BudgetDescent:
    repair = TargetRepair(TARGETS, case.space, case.scores, case.cost_model, case.constraints)
    return BudgetDescent(repair, world.marginals, world.price, targets=TARGETS, looks=LOOKS)


def _best(case: Case, world: Separable, target: float, groups: Sequence[int]) -> float:
    """The least loss with these KV groups: steps are taken one by one where they are missed least (exact: convex)."""
    channels = np.full(8, 64)
    model = case.cost_model
    budget = target * model.dense.block_params - sum(groups) * model.params_per_kv_group
    while channels.sum() * model.params_per_ffn_channel > budget:
        options = []
        for layer in range(8):
            if channels[layer] - STEP >= case.space.mlp_low[layer]:
                fewer = channels.copy()
                fewer[layer] -= STEP
                options.append((world.loss(groups, fewer), layer))
        channels[min(options)[1]] -= STEP
    return world.loss(groups, channels)


def test_every_target_is_served_from_below(case: Case, world: Separable) -> None:
    descent = _descent(case, world)
    walked = descent.run()
    assert len(walked) == descent.steps == len(TARGETS) * (LOOKS + 2)
    step = STEP * case.cost_model.params_per_ffn_channel / case.cost_model.dense.block_params
    for walk in walked:
        ratio = case.cost_model(walk.genome).inheriting_ratio
        assert walk.target - step <= ratio <= walk.target
        assert case.space.contains(walk.genome)
        assert walk.quality == world.price([walk.genome])[0]


def test_quality_never_rises_at_a_target_and_ends_near_the_best(case: Case, world: Separable) -> None:
    walked = _descent(case, world).run()
    for target in TARGETS:
        own = [step for step in walked if step.target == target]
        assert all(after.quality <= before.quality for before, after in pairwise(own))
        groups = own[-1].genome.kv_groups.tolist()
        # The harmful attention is gone, the dear one stays.
        assert max(groups[:2]) < 3
        assert groups[2:] == [3] * 6
        anchor = ImportanceSampling(_descent(case, world)._repair).anchor(target)
        uniform, best = world.price([anchor])[0], _best(case, world, target, groups)
        assert own[-1].quality - best <= 0.1 * (uniform - best)


@pytest.mark.parametrize("broken_after", [1, LOOKS, LOOKS + 2, LOOKS + 5])
def test_a_broken_walk_goes_on_to_the_same_end(case: Case, world: Separable, broken_after: int) -> None:
    whole = _descent(case, world).run()
    told: list[DescentStep] = []
    resumed = _descent(case, world).run(whole[:broken_after], on_step=told.append)
    assert [step.genome for step in resumed] == [step.genome for step in whole]
    assert [step.quality for step in resumed] == [step.quality for step in whole]
    assert told == resumed[broken_after:]


def test_a_walk_takes_no_more_than_its_effort(case: Case, world: Separable) -> None:
    _descent(case, world).run()
    looks, candidates = descent_effort(TARGETS, layers=8, looks=LOOKS)
    assert len(world.turns) == looks
    assert candidates / 2 < world.priced <= candidates
    assert descent_effort((0.9, 0.8, 0.7, 0.6, 0.5), layers=30, looks=6) == (43, 155)
    assert descent_effort(TARGETS, layers=8, looks=0) == descent_effort((), layers=8, looks=6) == (0, 0)


def test_looks_take_different_text(case: Case, world: Separable) -> None:
    _descent(case, world).run()
    assert len(set(world.turns)) == len(world.turns)


def test_moves_stay_inside_the_space(case: Case, world: Separable) -> None:
    genome = ImportanceSampling(_descent(case, world)._repair).anchor(0.7)
    for pairs, ratio in product((0, 3, 1000), (0.4, 0.7, 1.0)):
        allocation = Allocation(case.space, case.cost_model, genome, world.marginals(genome, 0))
        allocation.exchange(pairs)
        assert abs(int((allocation.channels - genome.ffn_channels).sum())) == 0
        allocation.remove_groups(range(8))
        assert np.count_nonzero(allocation.groups) >= case.space.min_attn_layers
        allocation.meet(ratio)
        assert (allocation.channels <= case.space.mlp_high).all()
        assert (allocation.channels >= case.space.mlp_low).all()
        # Met, or nothing is left to take.
        limit = ratio * case.cost_model.dense.block_params
        assert allocation.params <= limit or (allocation.channels - STEP < case.space.mlp_low).all()


class SeparableHeads(Separable):
    """The same with channels of heads, of which half the layers hardly need any."""

    def __init__(self, case: Case, mlp: FloatArray, heads: FloatArray) -> None:
        super().__init__(case, np.full(8, 5.0), mlp)
        self.heads = heads

    def whole_loss(self, genome: Genome, widths: Sequence[FloatArray] | None = None) -> float:
        own = [np.asarray(width, dtype=float) for width in genome.head_widths] if widths is None else widths
        lost = sum(
            float((worth * (1.0 - width / self.sizes.head_dim) ** 1.5).sum())
            for worth, width in zip(self.heads, own, strict=True)
        )
        return self.loss(genome.kv_groups, genome.ffn_channels) + lost

    def price(self, genomes: Sequence[Genome]) -> list[float]:
        self.priced += len(genomes)
        return [self.whole_loss(genome) for genome in genomes]

    def marginals(self, genome: Genome, turn: int) -> Marginals:
        found = super().marginals(genome, turn)
        more = np.full((len(self.heads), genome.num_layers), np.nan)
        for axis, layer in product(range(len(self.heads)), range(genome.num_layers)):
            widths = [np.asarray(width, dtype=float).copy() for width in genome.head_widths]
            widths[axis][layer] += 2
            if widths[axis][layer] <= self.sizes.head_dim:
                more[axis, layer] = self.whole_loss(genome, widths) - self.whole_loss(genome)
        return Marginals(
            mlp_less=found.mlp_less, mlp_more=found.mlp_more, step=STEP, heads_more=tuple(more), head_step=2
        )


@pytest.fixture(params=["head_dim", "head_dim_split", ("kv_group", "head_dim_split")])
def inside(request: pytest.FixtureRequest) -> tuple[Case, SeparableHeads]:
    sizes = architecture(num_layers=8, head_dim=8)
    space = SearchSpace(sizes, attention=request.param, head_multiple=2, ffn_multiple=STEP, attn_ratio=(0.25, 1.0))
    model, rng = CostModel(sizes, sequence_length=16), np.random.default_rng(3)
    found = Case(space, unit_scores(sizes, 0, space.layout), model, ConstraintSection(), 0)
    heads = np.where(np.arange(8) < 4, 0.02, 5.0) * np.ones((len(space.layout.axes), 1))
    return found, SeparableHeads(found, rng.lognormal(sigma=1.0, size=8), heads)


def test_heads_give_way_where_they_are_not_missed(inside: tuple[Case, SeparableHeads]) -> None:
    case, world = inside
    descent = _descent(case, world)
    walked = descent.run()
    assert len(walked) == descent.steps
    looks, candidates = descent_effort(
        TARGETS, layers=8, looks=LOOKS, axes=len(case.space.layout.axes), groups=not case.space.whole_groups
    )
    assert len(world.turns) == looks
    assert world.priced <= candidates
    for target in TARGETS:
        own = [step for step in walked if step.target == target]
        assert all(after.quality <= before.quality for before, after in pairwise(own))
        assert all(case.space.contains(step.genome) for step in own)
    for widths in walked[-1].genome.head_widths:
        assert widths[:4].max() < 8
        assert widths[4:].tolist() == [8] * 4
    step = STEP * case.cost_model.params_per_ffn_channel / case.cost_model.dense.block_params
    assert 0.7 - step <= case.cost_model(walked[-1].genome).inheriting_ratio <= 0.7
    again = _descent(case, world).run(walked[: LOOKS + 3])
    assert [(a.genome, a.quality) for a in again] == [(b.genome, b.quality) for b in walked]
