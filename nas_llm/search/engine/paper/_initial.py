"""The paper's first population."""

from __future__ import annotations

import numpy as np

from nas_llm.search.operators import ImportanceSampling, Mutation, Sampling
from nas_llm.space import Genome

_HALVINGS = 30
# Mutations for each genome that is missing, before a space counts as exhausted.
_TRIES = 10


class InitialPopulation(Sampling):
    """The paper's initial subnet (the top gamma of every block), at the upper end of the window, and mutations of it.

    Args:
        subnets: Makes initial subnets and knows the window; what it starts from comes second, after the subnet.
        mutation: Makes the others.
    """

    def __init__(self, subnets: ImportanceSampling, mutation: Mutation) -> None:
        self.subnets = subnets
        self.mutation = mutation

    def draw(self, count: int, rng: np.random.Generator) -> list[Genome]:
        """Draw ``count`` distinct genomes, fewer only where the space does not yield them."""
        repair = self.subnets.repair
        first = self.initial_subnet(rng)
        found = {first.digest(): first}
        for genome in self.subnets.start:
            repaired = repair(genome, rng=rng)
            found.setdefault(repaired.digest(), repaired)
        for _ in range(_TRIES * count):
            if len(found) >= count:
                break
            mutant = repair(self.mutation(first, rng=rng), rng=rng)
            found.setdefault(mutant.digest(), mutant)
        return list(found.values())[:count]

    def initial_subnet(self, rng: np.random.Generator) -> Genome:
        """The initial subnet of the largest gamma that fits, repaired: counts are whole units, the window is narrow."""
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            gamma = (low + high) / 2
            low, high = (gamma, high) if self._fits(self.subnets.initial_subnet(gamma)) else (low, gamma)
        return self.subnets.repair(self.subnets.initial_subnet(low), rng=rng)

    def _fits(self, genome: Genome) -> bool:
        """Whether a genome lies below the upper end of the window."""
        repair = self.subnets.repair
        cost = repair.cost_model(genome)
        upper = [(name, bound) for key, name, bound in repair.constraints.bounds if key != "min_ratio"]
        upper += [("inheriting_ratio", target) for target in repair.targets]
        return all(cost.value(name) <= bound for name, bound in upper)
