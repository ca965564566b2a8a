"""What a search needs of whoever evaluates its genomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from nas_llm.space import Genome


class OnResult(Protocol):
    """Called with each evaluated genome."""

    def __call__(self, index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        """Take a result.

        Args:
            index: Place of the genome in the population.
            value: What it scored.
            seconds: What that took.
            fidelity: Share of the text that it was scored on; below 1 the value is an estimate.
        """


class Evaluator(Protocol):
    """Measures the quality objective (``perplexity`` or ``kl``, smaller = better) of genomes.

    A genome's value must not depend on the other genomes of a call, or resumed runs differ from unbroken ones.
    """

    def evaluate(self, genomes: Sequence[Genome], *, on_result: OnResult) -> list[float]:
        """Evaluate genomes.

        Args:
            genomes: What to evaluate, all different.
            on_result: Called as soon as a genome is evaluated, in any order; an exception that it raises must be let
                through.

        Returns:
            One value a genome, in the order given.
        """
        ...


class RacingEvaluator(Evaluator, Protocol):
    """An evaluator that may give candidates up which others clearly beat."""

    def evaluate(
        self, genomes: Sequence[Genome], *, on_result: OnResult, bars: Sequence[float] | None = None
    ) -> list[float]:
        """Evaluate genomes; see :meth:`Evaluator.evaluate`.

        Args:
            genomes: What to evaluate, all different.
            on_result: Called as soon as a genome is evaluated.
            bars: The best quality so far at no more than each genome's cost, inf = none.
        """
        ...


def unheard(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
    """For callers that take results from the returned values alone."""


def comparable(value: float) -> float:
    """Broken subnets may score NaN, which neither compares nor fits into a database: infinity, the worst there is."""
    return math.inf if math.isnan(value) else float(value)
