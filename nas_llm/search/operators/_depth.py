"""Depth mutation: a sublayer leaves or returns."""

from __future__ import annotations

import numpy as np

from nas_llm.search.operators._base import Mutation, check_shares
from nas_llm.settings import DepthDefaults
from nas_llm.space import Genome, IntArray, SearchSpace, UnitScores


class DepthMutation(Mutation):
    """Remove one attention or FFN sublayer, or restore a removed one; nothing where the space forbids both.

    A restored sublayer gets its most important units, as many as the median present sublayer of its kind has.

    Args:
        space: Bounds, protected layers and how many sublayers must stay.
        scores: Importance of all units.
        probability: P_d, chance of a genome to be changed.

    Raises:
        ConfigError: If ``probability`` is out of range.
    """

    def __init__(
        self, space: SearchSpace, scores: UnitScores, *, probability: float = DepthDefaults.probability
    ) -> None:
        check_shares(probability=probability)
        self.space = space
        self.scores = scores
        self.probability = probability

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Change the depth with the mutation probability."""
        return self.move(genome, rng=rng) if rng.random() < self.probability else genome

    def force(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Remove or restore one sublayer, if the space allows either."""
        return self.move(genome, rng=rng)

    def move(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Remove or restore one sublayer; the same object where neither is possible."""
        removals, returns = [], []
        for kind, counts, least in (
            ("attn", genome.kv_groups, self.space.min_attn_layers),
            ("mlp", genome.ffn_channels, self.space.min_mlp_layers),
        ):
            returns += [(kind, int(layer)) for layer in np.flatnonzero(counts == 0)]
            if np.count_nonzero(counts) > least:
                removals += [(kind, int(layer)) for layer in np.flatnonzero(counts) if self.space.removable(int(layer))]
        if not removals and not returns:
            return genome
        options = returns if returns and (not removals or rng.random() < 0.5) else removals
        kind, layer = options[int(rng.integers(len(options)))]
        if options is removals:
            empty = np.zeros_like(genome.attn_mask[layer] if kind == "attn" else genome.mlp_mask[layer])
            return genome.with_rows(**{kind: [(layer, empty)]})
        return self.restore(genome, kind, layer)

    def restore(self, genome: Genome, kind: str, layer: int) -> Genome:
        """Give a removed sublayer back.

        Args:
            genome: The genome without it.
            kind: ``"attn"`` or ``"mlp"``.
            layer: Its layer.
        """
        if kind == "attn":
            groups = self.space.clip_groups(layer, _typical(genome.kv_groups, int(self.space.attn_high[layer])))
            widths = [
                self.space.align_head(layer, _typical(width, self.space.architecture.head_dim))
                for width in genome.head_widths
            ]
            return genome.with_rows(attn=[(layer, self.scores.top_attn(layer, groups, widths))])
        channels = self.space.align_ffn(layer, _typical(genome.ffn_channels, int(self.space.mlp_high[layer])))
        return genome.with_rows(mlp=[(layer, self.scores.top_mlp(layer, channels))])


def _typical(counts: IntArray, otherwise: int) -> float:
    present = counts[counts > 0]
    return float(np.median(present)) if len(present) else float(otherwise)
