"""Thin pymoo wrappers: populations are ``n x 1`` object arrays that hold one genome a row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pymoo.core.crossover import Crossover
from pymoo.core.mutation import Mutation
from pymoo.core.repair import Repair
from pymoo.core.sampling import Sampling

from nas_llm.search.operators import checked_genomes
from nas_llm.space import Genome

ObjectArray = npt.NDArray[np.object_]


class GenomeOperator(Protocol):
    """Makes one genome from one genome, e.g. a mutation or a repair."""

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Apply the operator."""
        ...


class CrossoverOperator(Protocol):
    """Makes two genomes from two genomes."""

    def __call__(self, first: Genome, second: Genome, *, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Apply the operator."""
        ...


def genome_column(genomes: Sequence[Genome]) -> ObjectArray:
    """``n x 1`` object array of ``n`` genomes."""
    column = np.empty((len(genomes), 1), dtype=object)
    column[:, 0] = genomes
    return column


class _Shared:
    """A copy shares its genome operator: ``minimize`` copies the algorithm, and what is learned stays in one place."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.copy(self)


class PymooSampling(_Shared, Sampling):  # type: ignore[misc]
    """A first population from a function of the number of genomes and a generator."""

    def __init__(self, draw: Callable[[int, np.random.Generator], list[Genome]]) -> None:
        super().__init__()
        self.draw = draw

    def _do(self, problem: Any, n_samples: int, *args: Any, random_state: Any = None, **kwargs: Any) -> ObjectArray:
        # An operator's method, or a function.
        operator = getattr(self.draw, "__self__", self.draw)
        return genome_column(checked_genomes("sampling", operator, partial(self.draw, n_samples, random_state)))


class PymooMutation(_Shared, Mutation):  # type: ignore[misc]
    """A mutation of every individual."""

    def __init__(self, operator: GenomeOperator) -> None:
        super().__init__(prob=1.0)
        self.operator = operator

    def _do(self, problem: Any, X: ObjectArray, *args: Any, random_state: Any = None, **kwargs: Any) -> ObjectArray:
        return genome_column([self.operator(genome, rng=random_state) for genome in X[:, 0]])


class PymooRepair(_Shared, Repair):  # type: ignore[misc]
    """A repair of every individual."""

    def __init__(self, operator: GenomeOperator) -> None:
        super().__init__()
        self.operator = operator

    def _do(self, problem: Any, X: ObjectArray, *args: Any, random_state: Any = None, **kwargs: Any) -> ObjectArray:
        return genome_column([self.operator(genome, rng=random_state) for genome in X[:, 0]])


class PymooCrossover(_Shared, Crossover):  # type: ignore[misc]
    """A crossover of two parents into two children.

    Args:
        operator: The crossover.
        probability: Share of matings that are crossed; the others pass their parents on.
    """

    def __init__(self, operator: CrossoverOperator, *, probability: float) -> None:
        super().__init__(n_parents=2, n_offsprings=2, prob=probability)
        self.operator = operator

    def _do(self, problem: Any, X: ObjectArray, *args: Any, random_state: Any = None, **kwargs: Any) -> ObjectArray:
        children = np.empty_like(X)
        for mating in range(X.shape[1]):
            first, second = X[0, mating, 0], X[1, mating, 0]
            work = partial(self.operator, first, second, rng=random_state)
            children[:, mating, 0] = checked_genomes("crossover", self.operator, work, like=first)
        return children
