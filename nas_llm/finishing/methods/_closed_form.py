"""Each block for itself, exactly."""

from __future__ import annotations

from nas_llm.display import alternatives
from nas_llm.finishing.methods._block_by_block import BlockByBlock
from nas_llm.reconstruction import Solver, closed_form


class ClosedFormFinish(BlockByBlock):
    """Output projections refitted by :func:`nas_llm.reconstruction.closed_form`."""

    name = "closed_form"
    keys = ("damping", "validation")

    @property
    def solver(self) -> tuple[str, Solver]:
        """The closed form."""
        return self.name, closed_form

    def in_words(self) -> str:
        """For the card."""
        return f"inherited, output projections refitted in closed form (damping {alternatives(self.dampings)})"
