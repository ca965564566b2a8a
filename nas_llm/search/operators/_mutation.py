"""The mutation of a search: guided, depth, ratio and mask mutation in one."""

from __future__ import annotations

import numpy as np

from nas_llm.search.operators._depth import DepthMutation
from nas_llm.search.operators._guided import GuidedMutation
from nas_llm.search.operators._mask import MaskMutation
from nas_llm.search.operators._ratio import RatioMutation
from nas_llm.space import Genome


class GenomeMutation:
    """Guided mutation, or else depth, ratio and mask mutation; never idle if anything can change.

    A guided child is left as it is: what the other mutations would add to it is mostly loss.

    Args:
        mask: P_m.
        ratio: P_s.
        depth: P_d.
        guided: P_g.
    """

    def __init__(self, mask: MaskMutation, ratio: RatioMutation, depth: DepthMutation, guided: GuidedMutation) -> None:
        self.mask = mask
        self.ratio = ratio
        self.depth = depth
        self.guided = guided

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Mutate one genome."""
        child = self.guided(genome, rng=rng)
        if child == genome:
            child = self.mask(self.ratio(self.depth(genome, rng=rng), rng=rng), rng=rng)
        return child if child != genome else self._forced(genome, rng)

    def _forced(self, genome: Genome, rng: np.random.Generator) -> Genome:
        # Transfers need a partner with room, which a genome at a corner of the space does not have.
        for transfer in (None, False):
            for layer in rng.permutation(genome.num_layers).tolist():
                child = self.ratio.move(genome, [layer], rng=rng, transfer=transfer)
                if child != genome:
                    return child
        return self.depth.move(genome, rng=rng)
