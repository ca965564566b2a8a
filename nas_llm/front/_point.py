"""One subnet of a front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_llm.space import Cost, Genome


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """One subnet of a front.

    Attributes:
        id: ``"p01"``, ..., or ``"dense"``.
        genome: Its masks.
        objectives: Objective name to the value that the search saw; all are minimised.
        cost: Its exact cost.
        fitness_perplexity: Perplexity on the windows that the search saw.
        held_out_perplexity: Perplexity on windows that the search never saw; None before they are scored.
        generation: Generation in which it was found, 1 = the first population; 0 for the dense model.
        knee: Whether this is the front's knee.
    """

    id: str
    genome: Genome
    objectives: Mapping[str, float]
    cost: Cost
    fitness_perplexity: float | None
    held_out_perplexity: float | None
    generation: int
    knee: bool = False

    @property
    def digest(self) -> str:
        """32 hex digits that identify the masks."""
        return self.genome.digest()

    @property
    def layers(self) -> tuple[Mapping[str, int], ...]:
        """``L`` mappings with ``kv_groups``, ``ffn_channels`` and channels of heads; see :meth:`Genome.layer_sizes`."""
        return self.genome.layer_sizes()
