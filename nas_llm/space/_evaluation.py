"""One genome with its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nas_llm.space._cost import Cost
from nas_llm.space._genome import Genome


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One evaluated genome.

    Attributes:
        ordinal: 1, 2, ... in the order in which the algorithm asked.
        generation: Generation that asked for it, 1 = the first population.
        digest: 32 hex digits that identify the masks.
        genome_bytes: The masks, packed; :attr:`genome` unpacks them.
        objectives: Objective name to value.
        cost: Its exact cost.
        seconds: Time of the evaluation; 0 when the value came from the shared cache.
        fidelity: Share of the fitness text that it was scored on; below 1 the quality is an estimate (racing).
    """

    ordinal: int
    generation: int
    digest: str
    genome_bytes: bytes
    objectives: Mapping[str, float]
    cost: Cost
    seconds: float
    fidelity: float = 1.0

    @property
    def genome(self) -> Genome:
        """The masks, unpacked anew: a long history would not fit into memory unpacked."""
        return Genome.from_bytes(self.genome_bytes)
