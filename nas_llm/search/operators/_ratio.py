"""Ratio mutation: a layer's inheriting ratio moves, most often as a budget transfer between two layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nas_llm.search.operators._base import Mutation, check_shares
from nas_llm.settings import RatioDefaults
from nas_llm.space import Counts, Genome, IntArray, SearchSpace, UnitScores, resize_genome


class RatioMutation(Mutation):
    """Move how many units a layer inherits; masks change only by the units that leave or enter.

    A move changes the FFN channels of a layer by a random multiple of ``ffn_multiple``, at most ``ratio_step * P``,
    or, now and then, its KV groups, or the channels that its heads keep by multiples of ``head_multiple``. As a budget
    transfer another layer takes what the first one gave, in the same unit, so every cost of the model stays (exactly,
    as long as both counts are multiples of ``ffn_multiple``).

    Args:
        space: Bounds and alignment.
        scores: Importance of all units.
        probability: P_s, chance of a layer to be moved.
        ratio_step: Largest move, as a fraction of the layer's units.
        transfer_probability: Share of moves that are budget transfers.
        group_probability: Share of moves that change KV groups.
        head_probability: Share of moves that change attention where masks lie inside heads; KV groups, if they may go,
            and each kind of unit are moved equally often.
        temperature: Softness of the choice of units, 0 = pure importance.

    Raises:
        ConfigError: If a parameter is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        scores: UnitScores,
        *,
        probability: float = RatioDefaults.probability,
        ratio_step: float = RatioDefaults.ratio_step,
        transfer_probability: float = RatioDefaults.transfer_probability,
        group_probability: float = RatioDefaults.group_probability,
        head_probability: float = RatioDefaults.head_probability,
        temperature: float = RatioDefaults.temperature,
    ) -> None:
        check_shares(
            probability=probability,
            ratio_step=ratio_step,
            transfer_probability=transfer_probability,
            group_probability=group_probability,
            head_probability=head_probability,
        )
        self.space = space
        self.scores = scores
        self.probability = probability
        self.ratio_step = ratio_step
        self.transfer_probability = transfer_probability
        self.group_probability = group_probability
        self.head_probability = head_probability
        self.temperature = temperature

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Move each layer with the mutation probability."""
        return self.move(genome, np.flatnonzero(rng.random(genome.num_layers) < self.probability).tolist(), rng=rng)

    def force(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Move one layer, any that can be moved: by a transfer if need be without a partner.

        Transfers need a partner with room, which a genome at a corner of the space does not have.
        """
        for transfer in (None, False):
            for layer in rng.permutation(genome.num_layers).tolist():
                child = self.move(genome, [layer], rng=rng, transfer=transfer)
                if child != genome:
                    return child
        return genome

    def move(
        self, genome: Genome, layers: list[int], *, rng: np.random.Generator, transfer: bool | None = None
    ) -> Genome:
        """Move the named layers one after the other; the same object if none could move.

        Args:
            genome: A genome inside the space.
            layers: Layers to move; a layer may be named more than once.
            rng: Source of randomness.
            transfer: Whether the moves are budget transfers; None = drawn for each.
        """
        counts = genome.counts.copy()
        groups, channels = counts.groups, counts.channels
        space, architecture = self.space, self.space.architecture
        for layer in layers:
            paired = bool(rng.random() < self.transfer_probability) if transfer is None else transfer
            attention = bool(groups[layer] and space.attn_low[layer] < space.attn_high[layer])
            if counts.widths and self._move_heads(counts, layer, attention, paired, rng):
                continue
            ffn = bool(channels[layer] and space.mlp_low[layer] < space.mlp_high[layer])
            if attention and not counts.widths and (not ffn or rng.random() < self.group_probability):
                most = max(1, int(self.ratio_step * architecture.num_kv_heads))
                step = int(rng.integers(1, most + 1))
                _shift(groups, layer, step, paired, space.attn_low, space.attn_high, space.clip_groups, rng)
            elif ffn:
                most = max(1, int(self.ratio_step * architecture.intermediate_size) // space.ffn_multiple)
                step = int(rng.integers(1, most + 1)) * space.ffn_multiple
                _shift(channels, layer, step, paired, space.mlp_low, space.mlp_high, space.align_ffn, rng)
        return resize_genome(
            genome,
            kv_groups=groups,
            head_widths=counts.widths,
            ffn_channels=channels,
            scores=self.scores,
            temperature=self.temperature,
            rng=rng,
        )

    def _move_heads(
        self, counts: Counts, layer: int, groups_move: bool, paired: bool, rng: np.random.Generator
    ) -> bool:
        """Change the attention of a layer with its probability, in place; False if it is the FFN's turn."""
        space = self.space
        ffn = bool(counts.channels[layer] and space.mlp_low[layer] < space.mlp_high[layer])
        if not counts.groups[layer] or (ffn and rng.random() >= self.head_probability):
            return False
        chosen = int(rng.integers(len(counts.widths) + groups_move))
        if chosen == len(counts.widths):
            _shift(counts.groups, layer, 1, paired, space.attn_low, space.attn_high, space.clip_groups, rng)
            return True
        most = max(1, int(self.ratio_step * space.architecture.head_dim) // space.head_multiple)
        step = int(rng.integers(1, most + 1)) * space.head_multiple
        widths = counts.widths[chosen]
        _shift(widths, layer, step, paired, space.head_low, space.head_high, space.align_head, rng)
        return True


def _shift(
    counts: IntArray,
    layer: int,
    step: int,
    transfer: bool,
    low: IntArray,
    high: IntArray,
    align: Callable[[int, float], int],
    rng: np.random.Generator,
) -> None:
    """Move ``counts[layer]`` up or down by about ``step`` in place; a layer at its bound moves the other way."""
    old = int(counts[layer])
    sign = 1 if rng.random() < 0.5 else -1
    new = align(layer, old + sign * step)
    if new == old:
        sign = -sign
        new = align(layer, old + sign * step)
    if transfer and new != old:
        room = counts - low if sign > 0 else high - counts
        room[counts == 0] = 0
        room[layer] = 0
        partners = np.flatnonzero(room)
        if not len(partners):
            return
        partner = int(rng.choice(partners))
        taken = int(counts[partner])
        given = align(partner, taken - sign * min(abs(new - old), int(room[partner])))
        new = align(layer, old + taken - given)
        counts[partner] = given
    counts[layer] = new
