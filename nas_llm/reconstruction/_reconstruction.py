"""What a sequential reconstruction results in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from nas_llm.reconstruction._block import Residual
from nas_llm.space import Genome


@dataclass(frozen=True)
class SequentialResidual(Residual):
    """Residual of a sequential refit, on the subnet's own inputs and against its own target.

    Attributes:
        damping: The damping that was used.
        held_out: Residual on the windows held out for choosing it, solved without them; None if none were.
    """

    damping: float
    held_out: float | None


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """The refitted weights of one subnet.

    Attributes:
        genome: Its masks.
        layers: L state dicts with the refitted parameters of a block (weights, and biases where there are any) by
            their names in the block, on the CPU, in the dense model's dtype; empty where nothing was refitted.
        residuals: In the order of the refits.
        began: L state dicts with what the blended parameters were before, if that was kept.
    """

    genome: Genome
    layers: tuple[dict[str, Tensor], ...]
    residuals: tuple[SequentialResidual, ...]
    began: tuple[dict[str, Tensor], ...] = field(default=(), repr=False)

    def blended(self, share: float) -> Reconstruction:
        """The same with less of the update: what a blend of ``share`` times this one's would have made.

        It does not keep what the parameters were before.

        Args:
            share: Of the difference to what the parameters were before, above 0 and at most 1.
        """
        if share == 1.0:
            return replace(self, began=())
        layers = tuple(
            {
                name: torch.lerp(began[name].to(value), value, share) if name in began else value
                for name, value in layer.items()
            }
            for began, layer in zip(self.began, self.layers, strict=True)
        )
        return replace(self, layers=layers, began=())

    def edit(self, layer: int, sliced: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A sliced block's state dict with the refitted weights; the ``edit`` of ``build_subnet``."""
        return {**sliced, **self.layers[layer]}
