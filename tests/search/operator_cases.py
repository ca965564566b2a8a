"""Hypothesis strategies: spaces with all their corners, genomes inside and outside of them, constraints."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from synthetic_search import architecture, unit_scores

from nas_llm.config import ConstraintSection, OperatorSection
from nas_llm.errors import SpaceError
from nas_llm.search import CostConstraints, GenomeRepair, Operators, build_operators, check_feasible
from nas_llm.space import CostModel, Genome, SearchSpace, UnitScores

PROPERTY = settings(max_examples=60, deadline=None)


class Case(NamedTuple):
    """One space with everything that operators need, and a generator."""

    space: SearchSpace
    scores: UnitScores
    cost_model: CostModel
    constraints: ConstraintSection
    seed: int

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)

    @property
    def repair(self) -> GenomeRepair:
        return GenomeRepair(self.space, self.scores, self.cost_model, CostConstraints(self.constraints))

    def operators(self, **section: Any) -> Operators:
        return build_operators(
            OperatorSection(**section),
            space=self.space,
            scores=self.scores,
            cost_model=self.cost_model,
            constraints=self.constraints,
        )

    def outside(self, seed: int = 0) -> Genome:
        """A genome that need not lie in the space."""
        rng = np.random.default_rng([self.seed, seed])
        a = self.space.architecture
        share = rng.random((a.num_layers, 1))
        keep = rng.random((2, a.num_layers, 1)) < 0.8
        return Genome(
            (rng.random((a.num_layers, a.num_kv_heads)) < share) & keep[0],
            (rng.random((a.num_layers, a.intermediate_size)) < share) & keep[1],
        )

    def inside(self, seed: int = 0) -> Genome:
        """A genome of the space, constraints not regarded."""
        free = GenomeRepair(self.space, self.scores, self.cost_model, CostConstraints())
        return free(self.outside(seed), rng=np.random.default_rng([self.seed, seed, 1]))


@st.composite
def cases(draw: st.DrawFn, *, aligned: bool = False, constrained: bool = False) -> Case:
    """Any small space.

    Args:
        draw: Given by hypothesis.
        aligned: Only widths that are multiples of ``ffn_multiple``.
        constrained: Draw feasible constraints too.
    """
    layers, groups = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    width, multiple = draw(
        st.sampled_from([(16, 4), (24, 8), (20, 5), *([] if aligned else [(22, 4), (9, 2), (30, 7)])])
    )
    sizes = architecture(
        num_layers=layers,
        num_heads=groups * draw(st.integers(1, 2)),
        num_kv_heads=groups,
        intermediate_size=width,
        o_bias=draw(st.booleans()),
        mlp_bias=draw(st.booleans()),
    )
    space = SearchSpace(
        sizes,
        ffn_multiple=multiple,
        attn_ratio=(draw(st.sampled_from([0.1, 0.5])), 1.0),
        mlp_ratio=(draw(st.sampled_from([0.1, 0.4])), draw(st.sampled_from([0.9, 1.0]))),
        min_attn_layers=draw(st.none() | st.integers(0, layers)),
        min_mlp_layers=draw(st.none() | st.integers(0, layers)),
        protected_layers=draw(st.sets(st.integers(0, layers - 1), max_size=1)),
    )
    model = CostModel(sizes, sequence_length=16)
    constraints = ConstraintSection()
    if constrained:
        constraints = draw(_feasible_constraints(space, model))
    seed = draw(st.integers(0, 2**31))
    return Case(space, unit_scores(sizes, seed), model, constraints, seed)


@st.composite
def _feasible_constraints(draw: st.DrawFn, space: SearchSpace, model: CostModel) -> ConstraintSection:
    low = model.from_counts(**space.extreme_counts(largest=False))
    high = model.from_counts(**space.extreme_counts(largest=True))

    def between(name: str, least: float) -> float:
        floor, ceiling = getattr(low, name), getattr(high, name)
        return max(1e-3, float(floor + draw(st.floats(least, 1.0)) * (ceiling - floor)))

    chosen: dict[str, Any] = {}
    if draw(st.booleans()):
        chosen["max_ratio"] = between("inheriting_ratio", 0.1)
    if draw(st.booleans()):
        chosen["max_macs_per_token"] = int(between("macs_per_token", 0.1))
    if draw(st.booleans()):
        chosen["max_params"] = int(between("params", 0.1))
    if draw(st.booleans()):
        chosen["max_kv_cache_bytes"] = max(1, int(between("kv_cache_bytes", 0.0)))
    if draw(st.booleans()):
        chosen["min_ratio"] = between("inheriting_ratio", 0.0)
        # A band that is wider than any single unit leaves room for some genome.
        chosen.pop("max_ratio", None)
        if draw(st.booleans()):
            chosen["max_ratio"] = min(1.0, chosen["min_ratio"] + 0.5)
    try:
        section = ConstraintSection(**chosen)
        check_feasible(space, model, CostConstraints(section))
    except SpaceError:
        return ConstraintSection()
    return section
