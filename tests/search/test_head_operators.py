"""Operators on masks inside heads: every head of a layer keeps as many channels as the others, whatever moves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from operator_cases import PROPERTY, Case
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection
from nas_llm.errors import ConfigError, SpaceError
from nas_llm.search import (
    CostConstraints,
    DepthMutation,
    GenomeRepair,
    LayerwiseCrossover,
    MaskMutation,
    Mutation,
    RatioMutation,
    check_feasible,
)
from nas_llm.search.operators import GenomeMutation, build_repair
from nas_llm.search.operators.repair import HeadRepair
from nas_llm.space import CostModel, Genome, SearchSpace

MODES = ("head_dim", "head_dim_split", ("kv_group", "head_dim"), ("kv_group", "head_dim_split"))


@st.composite
def cases(draw: st.DrawFn, *, constrained: bool = False) -> Case:
    """Any small space whose masks lie inside heads: with rotary positions in all, some or no channels."""
    layers, groups, width = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.sampled_from([8, 12]))
    sizes = architecture(
        num_layers=layers,
        num_heads=groups * draw(st.integers(1, 2)),
        num_kv_heads=groups,
        head_dim=width,
        rotary_dim=draw(st.sampled_from([0, 4, width])),
        intermediate_size=24,
        qkv_bias=draw(st.booleans()),
    )
    space = SearchSpace(
        sizes,
        attention=draw(st.sampled_from(MODES)),
        head_multiple=draw(st.sampled_from([None, 2, 4])),
        ffn_multiple=draw(st.sampled_from([4, 8])),
        attn_ratio=(draw(st.sampled_from([0.2, 0.5])), 1.0),
        mlp_ratio=(draw(st.sampled_from([0.2, 0.4])), 1.0),
        min_attn_layers=draw(st.none() | st.integers(0, layers)),
        min_mlp_layers=draw(st.none() | st.integers(0, layers)),
        protected_layers=draw(st.sets(st.integers(0, layers - 1), max_size=1)),
    )
    model = CostModel(sizes, sequence_length=16)
    constraints = ConstraintSection()
    if constrained:
        low = model.from_counts(**space.extreme_counts(largest=False))
        share = draw(st.floats(0.1, 1.0))
        name, key = draw(
            st.sampled_from(
                [
                    ("inheriting_ratio", "max_ratio"),
                    ("macs_per_token", "max_macs_per_token"),
                    ("params", "max_params"),
                    ("kv_cache_bytes", "max_kv_cache_bytes"),
                ]
            )
        )
        floor, ceiling = getattr(low, name), getattr(model.dense, name)
        bound: Any = floor + share * (ceiling - floor)
        constraints = ConstraintSection(**{key: min(bound, 1.0) if key == "max_ratio" else math.ceil(bound)})
    seed = draw(st.integers(0, 2**31))
    return Case(space, unit_scores(sizes, seed, space.layout), model, constraints, seed)


def repair_of(case: Case) -> GenomeRepair:
    return build_repair(case.space, case.scores, case.cost_model, case.constraints)


def outside(case: Case, seed: int = 0) -> Genome:
    """A genome of the space's layout that need not lie in the space: any widths, groups and missing sublayers."""
    rng, layout = np.random.default_rng([case.seed, seed]), case.space.layout
    a = case.space.architecture
    rows = []
    for layer in range(a.num_layers):
        groups = int(rng.integers(0, a.num_kv_heads + 1))
        widths = [int(rng.integers(2, a.head_dim + 1)) // 2 * 2 for _ in layout.axes]
        rows.append(case.scores.top_attn(layer, groups, widths))
    keep = rng.random((a.num_layers, 1)) < 0.8
    return Genome(np.stack(rows), (rng.random((a.num_layers, a.intermediate_size)) < 0.6) & keep, layout)


def inside(case: Case, seed: int = 0) -> Genome:
    free = build_repair(case.space, case.scores, case.cost_model, ConstraintSection())
    return free(outside(case, seed), rng=np.random.default_rng([case.seed, seed, 1]))


@PROPERTY
@given(cases())
def test_anything_is_brought_into_the_space(case: Case) -> None:
    repair, genome = repair_of(case), outside(case)
    assert isinstance(repair, HeadRepair)
    repaired = repair(genome, rng=case.rng)
    assert case.space.violations(repaired) == []
    assert repair(genome, rng=case.rng) == repaired
    assert repair(repaired, rng=case.rng) is repaired


@PROPERTY
@given(cases(constrained=True))
def test_anything_is_brought_into_the_constraints(case: Case) -> None:
    constraints = CostConstraints(case.constraints)
    try:
        check_feasible(case.space, case.cost_model, constraints)
    except SpaceError:
        return
    repair = repair_of(case)
    for genome in (outside(case), inside(case, 1), Genome.dense(case.space.architecture, case.space.layout)):
        repaired = repair(genome, rng=case.rng)
        assert case.space.violations(repaired) == []
        assert constraints.satisfied(case.cost_model(repaired)), (case.constraints, case.cost_model(repaired))


@PROPERTY
@given(cases())
def test_a_genome_of_whole_groups_is_taken_over(case: Case) -> None:
    """What an earlier search of whole KV groups found can start one inside heads."""
    a, rng = case.space.architecture, case.rng
    old = Genome(rng.random((a.num_layers, a.num_kv_heads)) < 0.7, rng.random((a.num_layers, 24)) < 0.7)
    repaired = repair_of(case)(old, rng=rng)
    assert case.space.violations(repaired) == []
    known = old.to_layout(a, case.space.layout)
    assert known is not None
    assert case.cost_model(known) == case.cost_model(old)
    assert known.to_layout(a, old.layout) == old


@PROPERTY
@given(cases(), st.floats(0.0, 1.0), st.sampled_from([0.0, 0.1, math.inf]))
def test_masks_are_redrawn_head_by_head_at_their_counts(case: Case, alpha: float, heat: float) -> None:
    genome, layout = inside(case), case.space.layout
    child = MaskMutation(case.scores, probability=1.0, alpha=alpha, temperature=heat)(genome, rng=case.rng)
    assert child.layout == layout
    for old, new in zip(genome.head_widths, child.head_widths, strict=True):
        assert old.tolist() == new.tolist()
    assert child.kv_groups.tolist() == genome.kv_groups.tolist()
    old_heads, new_heads = layout.groups(genome.attn_mask), layout.groups(child.attn_mask)
    assert ((old_heads & new_heads).sum(-1) >= alpha * old_heads.sum(-1) - 1e-9).all()
    for axis in layout.axes:
        before, after = layout.of(axis, genome.attn_mask), layout.of(axis, child.attn_mask)
        for span in axis.spans:
            counts, shared = before[..., span].sum(-1), (before & after)[..., span].sum(-1)
            stayed = old_heads & new_heads
            assert (after[..., span].sum(-1).max(-1) == counts.max(-1)).all()
            assert (shared[stayed] >= alpha * counts[stayed] - 1e-9).all()


@PROPERTY
@given(cases())
def test_ratios_move_by_nested_steps_of_every_head(case: Case) -> None:
    genome = inside(case)
    child = RatioMutation(case.space, case.scores, probability=1.0, head_probability=0.8)(genome, rng=case.rng)
    # Budgets are not regarded here, bounds are.
    assert case.space.violations(child) == []
    layout = case.space.layout
    for axis in layout.axes:
        before, after = layout.of(axis, genome.attn_mask), layout.of(axis, child.attn_mask)
        stayed = before.any(-1) & after.any(-1)
        for span in axis.spans:
            old, new = before[..., span], after[..., span]
            least = np.minimum(old.sum(-1), new.sum(-1))
            assert ((old & new).sum(-1)[stayed] == least[stayed]).all()


@PROPERTY
@given(cases())
def test_transfers_keep_the_cost_where_all_groups_stay(case: Case) -> None:
    if not case.space.whole_groups:
        return
    genome = inside(case)
    mutation = RatioMutation(case.space, case.scores, probability=0.5, transfer_probability=1.0, head_probability=1.0)
    child = mutation(genome, rng=case.rng)
    present = genome.kv_groups > 0
    for old, new in zip(genome.head_widths, child.head_widths, strict=True):
        assert old[present].sum() == new[present].sum()


@PROPERTY
@given(cases(), st.sampled_from(["uniform", "one_point"]))
def test_children_take_whole_rows(case: Case, kind: str) -> None:
    first, second = inside(case, 0), inside(case, 1)
    for child in LayerwiseCrossover(kind)(first, second, rng=case.rng):
        assert child.layout == case.space.layout
        for row, *parents in zip(child.attn_mask, first.attn_mask, second.attn_mask, strict=True):
            assert any(np.array_equal(row, parent) for parent in parents)


@PROPERTY
@given(cases())
def test_a_sublayer_comes_back_as_the_others_are(case: Case) -> None:
    genome = inside(case)
    mutation = DepthMutation(case.space, case.scores, probability=1.0)
    for layer in np.flatnonzero(genome.kv_groups == 0).tolist():
        child = mutation.restore(genome, "attn", layer)
        assert child.kv_groups[layer] > 0
        assert all(int(widths[layer]) in case.space.head_counts(layer) for widths in child.head_widths)
    assert mutation(genome, rng=case.rng).layout == case.space.layout


@PROPERTY
@given(cases(constrained=True))
def test_a_whole_search_step_stays_inside(case: Case) -> None:
    """Sampling, crossover, all mutations and guidance give genomes that repair leaves valid, the same for one seed."""
    try:
        check_feasible(case.space, case.cost_model, CostConstraints(case.constraints))
    except SpaceError:
        return
    made = case.operators()
    genomes = made.sampling.draw(8, case.rng)
    quality = [(g.digest(), g, float(case.cost_model(g).inheriting_ratio) + i) for i, g in enumerate(genomes)]
    made.sensitivities.fit(quality * 3)
    assert made.sensitivities.fitted == (len(quality) * 3 >= 16)
    results = []
    for _ in range(2):
        rng = case.rng
        children = made.crossover(genomes[0], genomes[-1], rng=rng)
        mutated = [made.repair(made.mutation(child, rng=rng), rng=rng) for child in children]
        assert all(case.space.violations(genome) == [] for genome in mutated)
        results.append([genome.digest() for genome in mutated])
    assert results[0] == results[1]


def test_a_mutation_that_forgets_the_layout_is_named() -> None:
    class Forgets(Mutation):
        def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
            return Genome(genome.attn_mask, genome.mlp_mask)

    sizes = architecture()
    genome = Genome.dense(sizes, sizes.attention_layout("head_dim"))
    with pytest.raises(ConfigError, match="mutation Forgets returned attention masks of mode kv_group"):
        GenomeMutation([Forgets()])(genome, rng=np.random.default_rng(0))
