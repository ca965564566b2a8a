"""The mutation of a search: several in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from nas_llm.search.operators._base import Mutation, checked_genomes
from nas_llm.space import Genome


class GenomeMutation(Mutation):
    """Mutations one after the other; never idle if anything can change.

    A genome that a final one (guided mutation) has changed is left as it is: what the others would add is mostly loss.

    Args:
        mutations: In the order in which they are applied.
    """

    def __init__(self, mutations: Sequence[Mutation]) -> None:
        self.mutations = tuple(mutations)

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Mutate one genome."""
        child = genome
        for mutation in self.mutations:
            before = child
            child = checked_genomes("mutation", mutation, partial(mutation, before, rng=rng), like=genome)
            if mutation.final and child != before:
                break
        return child if child != genome else self.force(genome, rng=rng)

    def force(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Ask each mutation to change the genome whatever its probability, the last one first."""
        for mutation in reversed(self.mutations):
            child: Genome = checked_genomes("mutation", mutation, partial(mutation.force, genome, rng=rng), like=genome)
            if child != genome:
                return child
        return genome
