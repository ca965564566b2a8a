"""Repair of genomes whose attention masks lie inside heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_llm.search.operators.repair._repair import GenomeRepair, spread
from nas_llm.space import Counts, Genome, IntArray, resize_genome


class HeadRepair(GenomeRepair):
    """Bring a genome into the space, then inside the cost constraints, with as little change as possible.

    FFN channels give and take first. Only where no number of them obeys the constraints, the channels that heads keep,
    and KV groups where the space lets them go, move step by step in random layers; sublayers are removed or restored
    as a last resort. See :class:`GenomeRepair` for the rest.
    """

    def _resized(self, genome: Genome, rng: np.random.Generator) -> Genome:
        counts = genome.counts.copy()
        self._clip(counts, genome, rng)
        self._constrain(counts, rng)
        return resize_genome(
            genome,
            kv_groups=counts.groups,
            head_widths=counts.widths,
            ffn_channels=counts.channels,
            scores=self.scores,
            temperature=0.0,
            rng=rng,
        )

    def accepts(self, genome: Genome) -> bool:
        """Whether a genome needs no repair."""
        return genome.layout == self.space.layout and super().accepts(genome)

    def _clip(self, counts: Counts, genome: Genome, rng: np.random.Generator) -> None:
        """Move the counts of each layer, in place, into the space."""
        space = self.space
        for layer in range(genome.num_layers):
            if counts.groups[layer] or not space.removable(layer):
                counts.groups[layer] = space.clip_groups(layer, counts.groups[layer])
            if counts.channels[layer] or not space.removable(layer):
                counts.channels[layer] = space.align_ffn(layer, counts.channels[layer])
        attention = max(space.min_attn_layers, int((counts.groups > 0).sum()))
        self._set_depth(counts.groups, attention, self._group_levels(), rng)
        ffn = max(space.min_mlp_layers, int((counts.channels > 0).sum()))
        self._set_depth(counts.channels, ffn, self._channel_levels(), rng)
        self._fill_widths(counts)

    def _fill_widths(self, counts: Counts) -> None:
        """Heads that are there keep an allowed number of channels, those of restored sublayers as many as others."""
        for widths in counts.widths:
            known = widths[(counts.groups > 0) & (widths > 0)]
            typical = float(np.median(known)) if len(known) else float(self.space.architecture.head_dim)
            for layer in np.flatnonzero(counts.groups).tolist():
                widths[layer] = self.space.align_head(layer, float(widths[layer] or typical))

    def _constrain(self, counts: Counts, rng: np.random.Generator) -> None:
        """Move the counts, in place, to totals that obey the constraints, if there are any within reach."""
        found = self._ffn_range(counts)
        while found is None and self._step(counts, rng):
            found = self._ffn_range(counts)
        if found is None:
            return
        spread(counts.channels, self._channel_levels(), *found, self.space.ffn_multiple, rng)

    def _ffn_range(self, counts: Counts) -> tuple[int, int] | None:
        totals = counts.totals
        del totals["channels"]
        return self._totals.ffn_range(**totals)

    def _step(self, counts: Counts, rng: np.random.Generator) -> bool:
        """Move one attention one step towards the constraints; False if nothing can move."""
        down = self._too_dear(counts)
        moves = []
        for layer in np.flatnonzero(counts.groups).tolist():
            allowed = self.space.head_counts(layer)
            for widths in counts.widths:
                index = allowed.index(int(widths[layer])) + (-1 if down else 1)
                if 0 <= index < len(allowed):
                    moves.append((widths, layer, allowed[index]))
            wanted = int(counts.groups[layer]) + (-1 if down else 1)
            if self.space.clip_groups(layer, wanted) == wanted:
                moves.append((counts.groups, layer, wanted))
        if moves:
            values, layer, value = moves[int(rng.integers(len(moves)))]
            values[layer] = value
            return True
        return self._change_depth(counts, down, rng)

    def _too_dear(self, counts: Counts) -> bool:
        """Whether even the smallest FFNs cost too much with this attention; else even the largest cost too little."""
        smallest = counts.copy()
        smallest.channels[:] = np.where(counts.channels > 0, self.space.mlp_low, 0)
        cost = self.cost_model.from_counts(**smallest.totals)
        return any(key != "min_ratio" and cost.value(name) > bound for key, name, bound in self.constraints.linear)

    def _change_depth(self, counts: Counts, down: bool, rng: np.random.Generator) -> bool:
        space = self.space
        options: list[tuple[IntArray, list[Sequence[int]], int]] = []
        for values, levels, least in (
            (counts.channels, self._channel_levels(), space.min_mlp_layers),
            (counts.groups, self._group_levels(), space.min_attn_layers),
        ):
            present = int(np.count_nonzero(values))
            free = present > max(least, len(space.protected_layers)) if down else present < len(values)
            if free:
                options.append((values, levels, present + (-1 if down else 1)))
        if not options:
            return False
        values, levels, wanted = options[int(rng.integers(len(options)))]
        self._set_depth(values, wanted, levels, rng)
        for widths in counts.widths:
            widths[counts.groups == 0] = 0
        self._fill_widths(counts)
        return True
