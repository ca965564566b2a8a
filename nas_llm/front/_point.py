"""One subnet of a front."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nas_llm.space import Cost, Genome


@dataclass(frozen=True, kw_only=True)
class UniformBaseline:
    """The best model of about a point's size that keeps the same share of every layer, with weights of the same kind.

    Attributes:
        allocation: ``FFN first`` (attention whole as long as FFNs can give) or ``everything``: the better one on the
            fitness text.
        inheriting_ratio: Its own, at most the point's.
        quality: What the search would have seen of it.
        held_out_perplexity: Perplexity on the held-out windows.
        texts: Perplexity of every kind of text, as the point's.
    """

    allocation: str
    inheriting_ratio: float
    quality: float
    held_out_perplexity: float
    texts: Mapping[str, float]


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
        texts: Perplexity of every kind of held-out text, and of text that neither search nor finish see.
        uniform: The best uniform model beside it; None for the dense model, and where there is none.
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
    texts: Mapping[str, float] = field(default_factory=dict)
    uniform: UniformBaseline | None = None
    knee: bool = False

    @property
    def digest(self) -> str:
        """32 hex digits that identify the masks."""
        return self.genome.digest()

    @property
    def layers(self) -> tuple[Mapping[str, int], ...]:
        """``L`` mappings with ``kv_groups``, ``ffn_channels`` and channels of heads; see :meth:`Genome.layer_sizes`."""
        return self.genome.layer_sizes()
