"""What a search needs of whoever prices its genomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from nas_llm.space import Genome

OnResult = Callable[[int, float, float], None]


class Evaluator(Protocol):
    """Measures the quality objective (``perplexity`` or ``kl``, smaller = better) of genomes.

    A genome's value must not depend on the other genomes of a call, or resumed runs differ from unbroken ones.
    """

    def evaluate(self, genomes: Sequence[Genome], *, on_result: OnResult) -> list[float]:
        """Price genomes.

        Args:
            genomes: What to price, all different.
            on_result: Called with index, value and seconds as soon as a genome is priced, in any order; an exception
                that it raises must be let through.

        Returns:
            One value a genome, in the order given.
        """
        ...
