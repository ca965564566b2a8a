"""A mutation: two neighbouring layers exchange how many FFN channels they keep."""

from __future__ import annotations

import numpy as np

from nas_llm.search import Mutation
from nas_llm.space import Genome, UnitScores, resize_mask


class SwapNeighbours(Mutation):
    """The candidate costs what it did before; the budget lies elsewhere."""

    def __init__(self, scores: UnitScores, *, probability: float = 0.3) -> None:
        self.scores = scores  # asked for by its name: the importance of all units
        self.probability = probability  # a setting

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        return self.force(genome, rng=rng) if rng.random() < self.probability else genome

    def force(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        counts = genome.ffn_channels
        differ = np.flatnonzero(counts[:-1] != counts[1:])
        if not len(differ):
            return genome  # the same object: nothing was changed
        lower = int(rng.choice(differ))
        rows = [
            (layer, resize_mask(genome.mlp_mask[layer], self.scores.mlp_ranks(layer), int(counts[other])))
            for layer, other in ((lower, lower + 1), (lower + 1, lower))
        ]
        return genome.with_rows(mlp=rows)
