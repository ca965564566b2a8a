"""Assortative mating: parents of similar cost are crossed."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
from pymoo.core.selection import Selection


class AssortativeSelection(Selection):  # type: ignore[misc]
    """Pairs the parents that an algorithm's own selection chose by their first cost objective.

    Crossing a large subnet with a small one gives children whose layers are wide and narrow at random, which is worse
    than either parent's allocation. Who is selected, and so the selection pressure, stays as it was.

    Args:
        algorithm: The class of the algorithm.
        objective: Column of ``F`` that parents are sorted by.
    """

    def __init__(self, algorithm: type, *, objective: int) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.objective = objective

    @property
    def inner(self) -> Selection:
        """The algorithm's own selection; looked up anew because some of pymoo's cannot be pickled."""
        return inspect.signature(self.algorithm).parameters["selection"].default

    def _do(
        self,
        problem: Any,
        pop: Any,
        n_select: int,
        n_parents: int,
        *args: Any,
        random_state: np.random.Generator,
        **kwargs: Any,
    ) -> Any:
        chosen = self.inner.do(
            problem, pop, n_select, n_parents, False, *args, random_state=random_state, **kwargs
        ).ravel()
        cost = np.array([pop[index].F[self.objective] for index in chosen])
        pairs = chosen[np.argsort(cost, kind="stable")].reshape(n_select, n_parents)
        # Mating may truncate its children, which must not always hit the most expensive pairs.
        return pairs[random_state.permutation(n_select)]
