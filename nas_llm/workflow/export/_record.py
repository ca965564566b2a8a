"""What an export leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nas_llm.export import export_format
from nas_llm.front import FrontPoint
from nas_llm.space import Cost


@dataclass(frozen=True, kw_only=True)
class ExportRecord:
    """One exported point in one format, measured and found on disk as it was measured.

    Attributes:
        point: The point of the front.
        path: The written directory.
        cost: Its exact cost.
        fitness_perplexity: Perplexity on the windows that the search saw.
        held_out_perplexity: Perplexity on windows that the search never saw.
        texts: Perplexity of every kind of held-out text and off-text.
        format: Name of the format.
        dtype: Type of the weights, in the format's own words.
        size: Bytes of the weight files.
        already: Whether an earlier call had finished it.
    """

    point: FrontPoint
    path: Path
    cost: Cost
    fitness_perplexity: float | None
    held_out_perplexity: float | None
    texts: Mapping[str, float] = field(default_factory=dict)
    format: str = "hf"
    dtype: str = "keep"
    size: int = 0
    already: bool = False

    @property
    def loads(self) -> str:
        """How to load what was written, in one line."""
        return export_format(self.format).loads
