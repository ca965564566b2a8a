"""Repair: the nearest genome that lies in the space and obeys the cost constraints."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.space import (
    Cost,
    CostConstraints,
    CostModel,
    FeasibleTotals,
    Genome,
    IntArray,
    SearchSpace,
    UnitScores,
    resize_genome,
)

# Attempts to bring a genome inside bounds on predicted times; each comes nearer.
_TIGHTENINGS = 12


class GenomeRepair:
    """Bring a genome into the space, then inside the cost constraints, with as little change as possible.

    Counts are clipped and aligned layer by layer and missing sublayers restored. Then the nearest totals that obey
    the constraints are found, KV groups only changing where FFN channels alone do not suffice, and the difference is
    spread at random over the layers in proportion to their room. Sublayers are removed or restored as a last resort.
    Units leave and enter by importance. What lies inside already is returned as the same object. Constraints that no
    genome can meet (see :func:`check_feasible`) leave the nearest genome of the space. Bounds on predicted times, which
    are no sums over units, are met by fewer parameters, in a few steps.

    Args:
        space: Where genomes have to lie.
        scores: Importance of all units.
        cost_model: Exact costs of genomes.
        constraints: Bounds on the cost.

    Attributes:
        targets: Inheriting ratios that genomes are brought to; none = any ratio.
    """

    targets: tuple[float, ...] = ()

    def __init__(
        self, space: SearchSpace, scores: UnitScores, cost_model: CostModel, constraints: CostConstraints
    ) -> None:
        self.space = space
        self.scores = scores
        self.cost_model = cost_model
        self.constraints = constraints
        self._totals = FeasibleTotals(space, cost_model, constraints)

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Repair one genome."""
        known = self.of_layout(genome)
        if self.accepts(known):
            return known
        repaired = self._resized(known, rng)
        for _ in range(_TIGHTENINGS if self.constraints.timed else 0):
            limit = self._fewer_params(repaired)
            if limit is None:
                break
            narrower = type(self)(self.space, self.scores, self.cost_model, self.constraints.tightened(limit))
            repaired = narrower._resized(known, rng)
        return repaired

    def _fewer_params(self, genome: Genome) -> float | None:
        """Block parameters at which all bounds on times are probably met; None where they are, or cannot be."""
        cost, least = self.cost_model(genome), self._least
        limit = float(cost.block_params)
        for _, name, bound in self.constraints.timed:
            floor, excess = least.value(name), cost.value(name) - bound
            if excess > 0.0:
                share = max(0.0, (bound - floor) / (cost.value(name) - floor))
                limit = min(limit, least.block_params + share * (cost.block_params - least.block_params))
        step = self.space.ffn_multiple * self.cost_model.params_per_ffn_channel
        # At least one step of the space down.
        return min(limit, cost.block_params - step) if limit < cost.block_params > least.block_params else None

    @cached_property
    def _least(self) -> Cost:
        return self.cost_model(self.space.extreme_genome(largest=False))

    def _resized(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """A genome brought inside all bounds but those on predicted times."""
        groups, channels = self._into_space(genome, rng)
        self._into_constraints(groups, channels, rng)
        return resize_genome(
            genome, kv_groups=groups, ffn_channels=channels, scores=self.scores, temperature=0.0, rng=rng
        )

    def of_layout(self, genome: Genome) -> Genome:
        """A genome with masks as the space has them.

        Raises:
            SpaceError: If the space's mode of attention masks has none for it.
        """
        known = genome.to_layout(self.space.architecture, self.space.layout)
        if known is None:
            raise SpaceError(
                f"a genome of mode {genome.layout.mode} keeps what space.attention = {self.space.layout.mode!r} has no "
                f"masks for; name {genome.layout.mode!r} there"
            )
        return known

    def accepts(self, genome: Genome) -> bool:
        """Whether a genome needs no repair."""
        return self.constraints.satisfied(self.cost_model(genome)) and self.space.contains(genome)

    def _into_space(self, genome: Genome, rng: np.random.Generator) -> tuple[IntArray, IntArray]:
        space = self.space
        groups, channels = genome.kv_groups.copy(), genome.ffn_channels.copy()
        for layer in range(genome.num_layers):
            if groups[layer] or not space.removable(layer):
                groups[layer] = space.clip_groups(layer, groups[layer])
            if channels[layer] or not space.removable(layer):
                channels[layer] = space.align_ffn(layer, channels[layer])
        self._set_depth(groups, max(space.min_attn_layers, int((groups > 0).sum())), self._group_levels(), rng)
        self._set_depth(channels, max(space.min_mlp_layers, int((channels > 0).sum())), self._channel_levels(), rng)
        return groups, channels

    def _into_constraints(self, groups: IntArray, channels: IntArray, rng: np.random.Generator) -> None:
        """Move both counts, in place, to the nearest totals that obey the constraints, if there are any."""
        depth = self._totals.nearest_depth(
            attention_layers=int((groups > 0).sum()), ffn_layers=int((channels > 0).sum()), groups=int(groups.sum())
        )
        if depth is None:
            return
        self._set_depth(groups, depth[0], self._group_levels(), rng)
        self._set_depth(channels, depth[1], self._channel_levels(), rng)
        totals = self._totals.nearest(attention_layers=depth[0], ffn_layers=depth[1], groups=int(groups.sum()))
        assert totals is not None
        spread(groups, self._group_levels(), totals.groups, totals.groups, 1, rng)
        unit = self.space.ffn_multiple
        spread(channels, self._channel_levels(), totals.first_channels, totals.last_channels, unit, rng)

    def _set_depth(
        self, counts: IntArray, sublayers: int, levels: Sequence[Sequence[int]], rng: np.random.Generator
    ) -> None:
        """Remove or restore random sublayers in place; a restored one gets a count as the present ones have it."""
        present = counts[counts > 0]
        for _ in range(len(present), sublayers):
            layer = int(rng.choice(np.flatnonzero(counts == 0)))
            typical = float(np.median(present)) if len(present) else float(levels[layer][-1])
            counts[layer] = min(levels[layer], key=lambda level: abs(level - typical))
        for _ in range(sublayers, len(present)):
            counts[int(rng.choice([i for i in np.flatnonzero(counts) if self.space.removable(int(i))]))] = 0

    def _group_levels(self) -> list[Sequence[int]]:
        return [
            range(low, high + 1)
            for low, high in zip(self.space.attn_low.tolist(), self.space.attn_high.tolist(), strict=True)
        ]

    def _channel_levels(self) -> list[Sequence[int]]:
        return [self.space.ffn_counts(layer) for layer in range(self.space.architecture.num_layers)]


def spread(
    counts: IntArray, levels: Sequence[Sequence[int]], first: int, last: int, unit: int, rng: np.random.Generator
) -> None:
    """Move ``counts`` in place, along their allowed levels, until their sum lies in ``first..last``.

    All single steps that the layers could take are thrown into one urn and as many as are needed drawn from it.

    Args:
        counts: ``L`` counts, 0 = not present and left alone.
        levels: The allowed counts of each layer, ascending.
        first: Smallest wanted sum.
        last: Largest wanted sum.
        unit: Largest difference of two neighbouring levels.
        rng: Source of randomness.
    """
    present = np.flatnonzero(counts).tolist()
    while not first <= (total := int(counts.sum())) <= last:
        down = total > last
        position = np.array([bisect_right(levels[layer], int(counts[layer])) - 1 for layer in present], dtype=np.int64)
        room = position if down else np.array([len(levels[layer]) - 1 for layer in present], dtype=np.int64) - position
        wanted = -(-(total - last if down else first - total) // unit)
        steps = rng.multivariate_hypergeometric(room, min(wanted, int(room.sum())), method="marginals")
        position += -steps if down else steps
        counts[present] = [levels[layer][index] for layer, index in zip(present, position.tolist(), strict=True)]
        if not steps.any() or (down and counts.sum() < first) or (not down and counts.sum() > last):
            return
