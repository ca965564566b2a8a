"""Mask mutation: which units are inherited changes, how many does not."""

from __future__ import annotations

import math

import numpy as np

from nas_llm.errors import ConfigError
from nas_llm.search.operators._base import Mutation, check_shares
from nas_llm.settings import MaskDefaults
from nas_llm.space import BoolArray, FloatArray, Genome, UnitScores, exchange_heads, weighted_choice


class MaskMutation(Mutation):
    """Redraw a mask at a given count, keeping a share ``alpha`` of the old one (Algorithm 1, built directly).

    Of the old units ``ceil(alpha * min(k, |old|))`` are kept; the rest of the ``k`` is filled from all units that
    were not kept. Both draws are weighted by importance.

    The paper's algorithm as printed rejection-samples uniform masks until the overlap is reached, which is all but
    impossible at real widths, and then silently returns the old mask. ``literal=True`` does exactly that.

    Args:
        scores: Importance of all units.
        probability: P_m, chance of a layer's attention mask, and of its FFN mask, to be redrawn. Masks inside heads are
            redrawn head by head, as the paper does.
        alpha: Least share of the old mask that survives, in [0, 1].
        temperature: Softness of the importance weights, 0 = pure importance, infinity = uniform.
        literal: Use the paper's rejection sampling.
        tries: eta, rejection-sampling attempts of the literal form.

    Raises:
        ConfigError: If a parameter is out of range.
    """

    def __init__(
        self,
        scores: UnitScores,
        *,
        probability: float = MaskDefaults.probability,
        alpha: float = MaskDefaults.alpha,
        temperature: float = MaskDefaults.temperature,
        literal: bool = MaskDefaults.literal,
        tries: int = MaskDefaults.tries,
    ) -> None:
        check_shares(probability=probability, alpha=alpha)
        if not temperature >= 0.0:
            raise ConfigError(f"temperature must be 0 or more, got {temperature}")
        self.scores = scores
        self.probability = probability
        self.alpha = alpha
        self.temperature = temperature
        self.literal = literal
        self.tries = tries

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Redraw each mask with the mutation probability, at its own count."""
        if genome.layout.axes:
            attn = self._redraw_heads(genome, rng)
        else:
            attn = [
                (layer, self.redraw(genome.attn_mask[layer], self.scores.attn_ranks(layer), int(count), rng=rng))
                for layer, count in enumerate(genome.kv_groups)
                if rng.random() < self.probability and 0 < count < genome.attn_mask.shape[1]
            ]
        mlp = [
            (layer, self.redraw(genome.mlp_mask[layer], self.scores.mlp_ranks(layer), int(count), rng=rng))
            for layer, count in enumerate(genome.ffn_channels)
            if rng.random() < self.probability and 0 < count < genome.mlp_mask.shape[1]
        ]
        return genome.with_rows(attn=attn, mlp=mlp) if attn or mlp else genome

    def _redraw_heads(self, genome: Genome, rng: np.random.Generator) -> list[tuple[int, BoolArray]]:
        """Rows of layers whose heads are redrawn, each head and each kind of unit for itself."""
        layout, changed = genome.layout, []
        for layer in np.flatnonzero(genome.kv_groups).tolist():
            row, ranks = genome.attn_mask[layer].copy(), self.scores.attn_ranks(layer)
            count = int(genome.kv_groups[layer])
            if count < layout.num_kv_heads and rng.random() < self.probability:
                heads = self.redraw(layout.groups(row), self.scores.group_ranks(layer), count, rng=rng)
                widths = [int(width[layer]) for width in genome.head_widths]
                row = exchange_heads(row, self.scores, layer, heads, widths)
            for axis in layout.axes:
                if rng.random() >= self.probability:
                    continue
                # A view: the units of an axis stand together.
                units, order = layout.of(axis, row), layout.of(axis, ranks)
                for head in np.flatnonzero(units.any(-1)):
                    for span in axis.spans:
                        count = int(units[head, span].sum())
                        if 0 < count < units[head, span].size:
                            units[head, span] = self.redraw(units[head, span], order[head, span], count, rng=rng)
            if (row != genome.attn_mask[layer]).any():
                changed.append((layer, row))
        return changed

    def redraw(self, old: BoolArray, ranks: FloatArray, count: int, *, rng: np.random.Generator) -> BoolArray:
        """A new mask of one layer.

        Args:
            old: ``N`` bool.
            ranks: ``N`` ranks in (0, 1], 1 = most important.
            count: k, units of the new mask.
            rng: Source of randomness.

        Returns:
            ``N`` bool with exactly ``count`` units, at least ``alpha * min(count, |old|)`` of them old ones (the
            literal form returns ``old`` when it gives up).
        """
        if self.literal:
            return self._reject(old, count, rng)
        kept = np.flatnonzero(old)
        # The guard keeps products such as 0.8 * 10 = 8.000000000000001 from asking for one unit more.
        least = math.ceil(self.alpha * min(count, len(kept)) - 1e-9)
        new = np.zeros_like(old)
        new[kept[weighted_choice(ranks[kept], least, temperature=self.temperature, rng=rng)]] = True
        rest = np.flatnonzero(~new)
        new[rest[weighted_choice(ranks[rest], count - least, temperature=self.temperature, rng=rng)]] = True
        return new

    def _reject(self, old: BoolArray, count: int, rng: np.random.Generator) -> BoolArray:
        for _ in range(self.tries):
            new = np.zeros_like(old)
            new[rng.choice(len(old), size=count, replace=False)] = True
            if np.count_nonzero(new & old) >= self.alpha * count:
                return new
        return old.copy()
