"""Each block for itself, by the paper's iteration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from nas_llm.display import alternatives
from nas_llm.finishing.methods._block_by_block import BlockByBlock
from nas_llm.reconstruction import Solver, admm


class AdmmFinish(BlockByBlock):
    """Output projections refitted by :func:`nas_llm.reconstruction.admm`.

    Args:
        damping: See :class:`BlockByBlock`.
        validation: See :class:`BlockByBlock`.
        rho: Penalty.
        iterations: Iterations.
    """

    name = "admm"
    keys = ("damping", "rho", "iterations", "validation")

    def __init__(self, *, damping: float | Sequence[float], validation: float, rho: float, iterations: int) -> None:
        super().__init__(damping=damping, validation=validation)
        self.rho = rho
        self.iterations = iterations

    @property
    def solver(self) -> tuple[str, Solver]:
        """ADMM with its penalty and iterations."""
        return f"admm({self.rho!r}, {self.iterations})", partial(admm, rho=self.rho, iterations=self.iterations)

    def in_words(self) -> str:
        """For the card."""
        how = f"by ADMM (rho {self.rho:g}, {self.iterations} iterations, damping {alternatives(self.dampings)})"
        return f"inherited, output projections refitted {how}"
