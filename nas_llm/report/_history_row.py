"""What figures need of an evaluated genome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from nas_llm.space import Cost


class HistoryRow(Protocol):
    """One evaluated genome, as the figures need it."""

    @property
    def ordinal(self) -> int:
        """Its place in the order of evaluation, from 0 or 1."""

    @property
    def generation(self) -> int:
        """The generation it belongs to, 1 = the first population."""

    @property
    def objectives(self) -> Mapping[str, float]:
        """Objective name to value."""

    @property
    def cost(self) -> Cost:
        """Its exact cost."""
