from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from operator_cases import PROPERTY, Case, cases
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.errors import ConfigError
from nas_llm.search import DepthMutation, MaskMutation, RatioMutation, resize_mask, weighted_choice
from nas_llm.space import CostModel, Genome, SearchSpace, UnitScores

TEMPERATURES = st.sampled_from([0.0, 0.02, 0.5, math.inf])


@PROPERTY
@given(st.integers(1, 30), st.integers(0, 30), TEMPERATURES, st.integers(0, 999))
def test_weighted_choice_is_exact_sorted_and_without_replacement(n: int, k: int, heat: float, seed: int) -> None:
    assume(k <= n)
    ranks = np.random.default_rng(seed).permutation(n).astype(float) / n + 1 / n
    chosen = weighted_choice(ranks, k, temperature=heat, rng=np.random.default_rng(seed))
    assert len(set(chosen.tolist())) == k
    assert chosen.tolist() == sorted(chosen.tolist())
    assert chosen.tolist() == weighted_choice(ranks, k, temperature=heat, rng=np.random.default_rng(seed)).tolist()
    if heat == 0.0:
        assert set(chosen.tolist()) == set(np.argsort(-ranks)[:k].tolist())


def test_weighted_choice_has_the_stated_distribution() -> None:
    """One draw of one unit has probability exp(rank / T) / sum, uniform at infinite temperature."""
    ranks, rng = np.array([0.25, 0.5, 0.75, 1.0]), np.random.default_rng(5)
    for heat in (0.4, math.inf):
        weights = np.exp(ranks / heat)
        counts = np.bincount([weighted_choice(ranks, 1, temperature=heat, rng=rng)[0] for _ in range(6000)])
        assert np.allclose(counts / 6000, weights / weights.sum(), atol=0.03)


@PROPERTY
@given(st.integers(1, 40), st.floats(0.0, 1.0), TEMPERATURES, st.integers(0, 999), st.data())
def test_mask_redraw_keeps_the_count_and_the_overlap(
    n: int, alpha: float, heat: float, seed: int, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    old = rng.random(n) < rng.random()
    count = data.draw(st.integers(0, n))
    mutation = MaskMutation(UnitScores(np.ones((1, 1)), np.ones((1, n))), alpha=alpha, temperature=heat)
    new = mutation.redraw(old, rng.permutation(n) / n + 1 / n, count, rng=rng)
    assert new.sum() == count
    assert (new & old).sum() >= alpha * min(count, old.sum()) - 1e-9


def test_mask_redraw_reaches_less_than_the_whole_old_mask() -> None:
    """Overlap is a bound, not the rule: with uniform draws about alpha of the old mask survives."""
    rng, old = np.random.default_rng(0), np.arange(1000) < 500
    mutation = MaskMutation(UnitScores(np.ones((1, 1)), np.ones((1, 1000))), alpha=0.6, temperature=math.inf)
    overlap = (mutation.redraw(old, np.linspace(1e-3, 1, 1000), 500, rng=rng) & old).sum()
    # 300 are kept on purpose, of the other 200 about 200 * 200/700 are old ones by chance.
    assert 330 <= overlap <= 385


def test_literal_form_gives_up_where_the_paper_does() -> None:
    rng, old = np.random.default_rng(0), np.arange(1000) < 500
    scores = UnitScores(np.ones((1, 1)), np.ones((1, 1000)))
    literal = MaskMutation(scores, alpha=0.8, literal=True, tries=20)
    new = literal.redraw(old, np.ones(1000), 400, rng=rng)
    assert np.array_equal(new, old)
    easy = MaskMutation(scores, alpha=0.3, literal=True, tries=1000).redraw(old, np.ones(1000), 400, rng=rng)
    assert easy.sum() == 400
    assert (easy & old).sum() >= 0.3 * 400


@PROPERTY
@given(cases(), TEMPERATURES)
def test_mask_mutation_keeps_every_count(case: Case, heat: float) -> None:
    genome = case.inside()
    child = MaskMutation(case.scores, probability=0.7, temperature=heat)(genome, rng=case.rng)
    assert child.kv_groups.tolist() == genome.kv_groups.tolist()
    assert child.ffn_channels.tolist() == genome.ffn_channels.tolist()
    assert child == MaskMutation(case.scores, probability=0.7, temperature=heat)(genome, rng=case.rng)


def test_mask_mutation_prefers_important_units() -> None:
    scores = UnitScores(np.ones((1, 1)), np.arange(200.0)[None, :])
    worst = Genome(np.ones((1, 1), bool), (np.arange(200) < 100)[None, :])
    child = MaskMutation(scores, probability=1.0, alpha=0.5, temperature=0.05)(worst, rng=np.random.default_rng(0))
    gained = np.flatnonzero(child.mlp_mask[0] & ~worst.mlp_mask[0])
    assert len(gained) >= 45
    assert gained.mean() > 165


@PROPERTY
@given(st.integers(1, 30), st.data(), TEMPERATURES)
def test_resize_is_nested(n: int, data: st.DataObject, heat: float) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    old, count = rng.random(n) < 0.5, data.draw(st.integers(0, n))
    new = resize_mask(old, rng.permutation(n) / n + 1 / n, count, temperature=heat, rng=rng)
    assert new.sum() == count
    assert (new & old).sum() == min(count, old.sum())


def test_resize_drops_the_least_and_adds_the_most_important() -> None:
    ranks, rng = np.array([0.2, 1.0, 0.4, 0.8, 0.6]), np.random.default_rng(0)
    old = np.array([True, False, True, True, False])
    assert resize_mask(old, ranks, 2, temperature=0.0, rng=rng).tolist() == [False, False, True, True, False]
    assert resize_mask(old, ranks, 4, temperature=0.0, rng=rng).tolist() == [True, True, True, True, False]


@PROPERTY
@given(cases(), st.floats(0.0, 1.0))
def test_ratio_mutation_stays_in_the_space(case: Case, transfer: float) -> None:
    genome = case.inside()
    mutation = RatioMutation(case.space, case.scores, probability=0.8, ratio_step=0.5, transfer_probability=transfer)
    child = mutation(genome, rng=case.rng)
    assert case.space.contains(child)
    assert child == mutation(genome, rng=case.rng)
    assert np.array_equal(child.kv_groups > 0, genome.kv_groups > 0)
    assert np.array_equal(child.ffn_channels > 0, genome.ffn_channels > 0)


@PROPERTY
@given(cases(aligned=True), st.integers(1, 10))
def test_budget_transfers_keep_every_cost(case: Case, moves: int) -> None:
    genome = case.inside()
    mutation = RatioMutation(case.space, case.scores, ratio_step=0.5, transfer_probability=1.0, group_probability=0.4)
    layers = case.rng.integers(genome.num_layers, size=moves).tolist()
    child = mutation.move(genome, layers, rng=case.rng)
    assert case.cost_model(child) == case.cost_model(genome)


def test_budget_transfers_do_move() -> None:
    case = _wide_case()
    genome = case.inside()
    mutation = RatioMutation(case.space, case.scores, ratio_step=0.5, transfer_probability=1.0, group_probability=0.0)
    children = [mutation.move(genome, [0], rng=np.random.default_rng(seed)) for seed in range(20)]
    assert len({child.digest() for child in children}) > 5
    for child in children:
        changed = np.flatnonzero(child.ffn_channels != genome.ffn_channels)
        assert len(changed) == 2
        assert abs(child.ffn_channels - genome.ffn_channels).max() <= 0.5 * 64


def _wide_case() -> Case:
    sizes = architecture()
    space = SearchSpace(sizes, ffn_multiple=4, mlp_ratio=(0.1, 0.9))
    return Case(space, unit_scores(sizes), CostModel(sizes, sequence_length=8), ConstraintSection(), 5)


@PROPERTY
@given(cases())
def test_depth_mutation_moves_one_sublayer_or_nothing(case: Case) -> None:
    genome = case.inside()
    child = DepthMutation(case.space, case.scores, probability=1.0)(genome, rng=case.rng)
    left_or_came = ((child.kv_groups > 0) != (genome.kv_groups > 0)).sum()
    left_or_came += ((child.ffn_channels > 0) != (genome.ffn_channels > 0)).sum()
    changed = (child.attn_mask != genome.attn_mask).any(1).sum() + (child.mlp_mask != genome.mlp_mask).any(1).sum()
    assert case.space.contains(child)
    assert left_or_came == changed <= 1
    free = [layer for layer in range(genome.num_layers) if case.space.removable(layer)]
    kinds = (
        (genome.kv_groups, case.space.min_attn_layers),
        (genome.ffn_channels, case.space.min_mlp_layers),
    )
    removable = any(counts[free].any() and (counts > 0).sum() > least for counts, least in kinds)
    absent = any((counts == 0).any() for counts, _ in kinds)
    assert (child is genome) == (not removable and not absent)


@PROPERTY
@given(cases())
def test_genome_mutation_always_changes_what_can_change(case: Case) -> None:
    genome = case.inside()
    mutation = case.operators(mask_probability=0.0, ratio_probability=0.0, depth_probability=0.0).mutation
    child = mutation(genome, rng=case.rng)
    assert case.space.contains(child)
    room = (case.space.attn_low < case.space.attn_high) & (genome.kv_groups > 0)
    room |= (case.space.mlp_low < case.space.mlp_high) & (genome.ffn_channels > 0)
    if room.any():
        assert child != genome


def test_bad_parameters_are_refused() -> None:
    scores = UnitScores(np.ones((1, 1)), np.ones((1, 4)))
    for arguments in ({"alpha": 1.2}, {"probability": -0.1}, {"temperature": -1.0}, {"temperature": math.nan}):
        with pytest.raises(ConfigError, match=next(iter(arguments))):
            MaskMutation(scores, **arguments)  # type: ignore[arg-type]
