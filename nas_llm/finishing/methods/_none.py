"""Inherited weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nas_llm.finishing._inputs import FinishInputs
from nas_llm.finishing.methods._method import FinishingMethod
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit


class NoFinish(FinishingMethod):
    """Leaves the inherited weights as they are."""

    name = "none"
    needs_text = False
    refits = False

    def in_words(self) -> str:
        """For the card."""
        return "inherited as they are"

    def refit(self, inputs: FinishInputs, genome: Genome, on_layer: Callable[[int], None]) -> BlockEdit:
        """Nothing."""
        return _unchanged


def _unchanged(layer: int, sliced: dict[str, Tensor]) -> dict[str, Tensor]:
    return sliced
