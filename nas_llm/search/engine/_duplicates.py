"""Duplicate elimination: no genome is asked for twice in a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination

from nas_llm.space import BoolArray


class DigestDuplicates(DuplicateElimination):  # type: ignore[misc]
    """Drops individuals whose genome is in the same or the other population, or was seen before.

    Attributes:
        seen: Digests of all completed generations. It is part of the algorithm's state and so of every checkpoint;
            that is what makes a resumed run ask for the same genomes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def complete(self, digests: Iterable[str]) -> None:
        """Remember the genomes of a completed generation."""
        self.seen.update(digests)

    def _do(self, pop: Any, other: Any, is_duplicate: BoolArray) -> BoolArray:
        known = set(self.seen) if other is None else {individual.X[0].digest() for individual in other}
        for index, individual in enumerate(pop):
            digest = individual.X[0].digest()
            is_duplicate[index] = digest in known
            if other is None:
                known.add(digest)
        return np.asarray(is_duplicate, dtype=bool)
