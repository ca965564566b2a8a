"""The paper's evolution as an algorithm of pymoo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from pymoo.core.algorithm import Algorithm
from pymoo.core.population import Population

from nas_llm.search.engine._duplicates import DigestDuplicates
from nas_llm.search.engine._pymoo import genome_column
from nas_llm.search.engine.paper._schedule import PaperSchedule
from nas_llm.search.operators import Crossover, GenomeRepair, Mutation, Sampling, checked_genomes
from nas_llm.space import Genome

# Known children in a row before one is mutated further, and again before it is done without.
_TRIES = 10


class PaperEvolution(Algorithm):  # type: ignore[misc]
    """Minimises one objective; each generation is made of the best feasible genomes of all so far.

    Random parents among the best are mutated, two random ones crossed (one child of each pair), and random ones
    mutated strongly, each a fixed number of times (Shen et al., section 3.3). Children are repaired into the window
    of cost and are new to the run.

    Args:
        schedule: How many parents, and children of each kind.
        sampling: Draws the first population.
        mutation: The mutation.
        strong: The strong mutation.
        crossover: The crossover.
        repair: Brings genomes into space and window.
        objective: Column of ``F`` that is minimised; the others are not looked at.
        pop_size: Genomes of the first population.
    """

    def __init__(
        self,
        *,
        schedule: PaperSchedule,
        sampling: Sampling,
        mutation: Mutation,
        strong: Mutation,
        crossover: Crossover,
        repair: GenomeRepair,
        objective: int,
        pop_size: int,
    ) -> None:
        super().__init__()
        self.schedule = schedule
        self.sampling = sampling
        self.mutation = mutation
        self.strong = strong
        self.crossover = crossover
        self.repair = repair
        self.objective = objective
        self.pop_size = pop_size
        self.eliminate_duplicates = DigestDuplicates()

    def _initialize_infill(self) -> Any:
        draw = partial(self.sampling.draw, self.pop_size, self.random_state)
        drawn: Sequence[Genome] = checked_genomes("sampling", self.sampling, draw)
        repaired = [self.repair(genome, rng=self.random_state) for genome in drawn]
        return _population(list({genome.digest(): genome for genome in repaired}.values()))

    def _initialize_advance(self, infills: Any = None, **kwargs: Any) -> None:
        self._advance_to(infills)

    def _infill(self) -> Any:
        parents: list[Genome] = [individual.X[0] for individual in self.pop]
        known = {*self.eliminate_duplicates.seen, *(genome.digest() for genome in parents)}
        plan: list[tuple[int, Callable[[list[Genome]], Genome]]] = [
            (self.schedule.mutations, partial(self._mutated, self.mutation)),
            (self.schedule.crossovers if len(parents) > 1 else 0, self._crossed),
            (self.schedule.strong, partial(self._mutated, self.strong)),
        ]
        children = [self._new(partial(make, parents), known) for count, make in plan for _ in range(count)]
        made = [child for child in children if child is not None]
        if not made:
            # As pymoo's own do when mating finds nothing new.
            self.termination.force_termination = True
            return None
        return _population(made)

    def _advance(self, infills: Any = None, **kwargs: Any) -> None:
        if infills is not None:
            self._advance_to(Population.merge(self.pop, infills))

    def _new(self, make: Callable[[], Genome], known: set[str]) -> Genome | None:
        """A child that is not known, and is from now on; None where none turns up.

        Parents that are nearly the same have no new child by crossover; it is mutated then.
        """
        rng = self.random_state
        for attempt in range(2 * _TRIES):
            made = make() if attempt < _TRIES else self.mutation(make(), rng=rng)
            child = self.repair(made, rng=rng)
            if child.digest() not in known:
                known.add(child.digest())
                return child
        return None

    def _mutated(self, mutation: Mutation, parents: list[Genome]) -> Genome:
        rng = self.random_state
        return mutation(parents[int(rng.integers(len(parents)))], rng=rng)

    def _crossed(self, parents: list[Genome]) -> Genome:
        rng = self.random_state
        first, second = (parents[int(place)] for place in rng.choice(len(parents), size=2, replace=False))
        work = partial(self.crossover, first, second, rng=rng)
        child: Genome = checked_genomes("crossover", self.crossover, work, like=first)[0]
        return child

    def _advance_to(self, population: Any) -> None:
        """Keep the parents of the next generation: what was not among the best so far never will be."""
        self.eliminate_duplicates.complete(individual.X[0].digest() for individual in population)
        values, violations = population.get("F")[:, self.objective], population.get("CV")[:, 0]
        # Stable: of equally good ones the older stays. Where nothing is feasible, the nearest to it.
        order = np.lexsort((values, violations))
        feasible = order[violations[order] <= 0.0]
        self.pop = population[(feasible if len(feasible) else order)[: self.schedule.parents]]


def _population(genomes: Sequence[Genome]) -> Any:
    return Population.new("X", genome_column(genomes))
