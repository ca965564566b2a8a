"""Refit of one sliced block: its attention output projection and its FFN output projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_llm.calibration import Calibration
from nas_llm.models import DenseModel
from nas_llm.reconstruction._closed_form import closed_form
from nas_llm.space import BoolArray


@dataclass(frozen=True)
class Residual:
    """Relative squared output error of one projection, before and after its refit."""

    layer: int
    projection: str
    before: float
    after: float


class BlockReconstructor:
    """Closed-form reconstruction of single blocks from the dense model's cached Grams (non-sequential).

    Args:
        dense: The model that subnets inherit from.
        calibration: Its Grams.
        damping: Ridge on the update, fraction of the mean diagonal.
        device: Where to solve.
        dtype: Arithmetic of the solve; float64 for models that are kept, float32 is enough to price candidates.
        residuals: Whether to record residuals.
    """

    def __init__(
        self,
        dense: DenseModel,
        calibration: Calibration,
        *,
        damping: float,
        device: torch.device,
        dtype: torch.dtype = torch.float64,
        residuals: bool = False,
    ) -> None:
        self._dense = dense
        self._calibration = calibration
        self._damping = damping
        self._device = device
        self._dtype = dtype
        self._want_residuals = residuals
        self.residuals: list[Residual] = []

    @property
    def identity(self) -> str:
        """What results depend on, for cache keys."""
        return f"closed_form:{self._calibration.key}:{self._damping!r}:{self._dtype}"

    def refit(
        self, layer: int, sliced: Mapping[str, Tensor], attn_mask: BoolArray, mlp_mask: BoolArray
    ) -> dict[str, Tensor]:
        """Replace the output projections of a sliced block by their refits.

        Args:
            layer: Index of the block.
            sliced: State dict of the sliced block.
            attn_mask: ``K`` bool.
            mlp_mask: ``P`` bool.

        Returns:
            The state dict with refitted ``o`` and ``fc2``, in the dtype of ``sliced``.
        """
        names, architecture = self._dense.adapter.names, self._dense.architecture
        heads = attn_mask.repeat(architecture.heads_per_group * architecture.head_dim)
        result = dict(sliced)
        wanted = [
            (name, kept, index)
            for index, (name, kept) in enumerate(((names.o, heads), (names.fc2, mlp_mask)))
            if kept.any() and not kept.all()
        ]
        if not wanted:
            return result
        grams, dense = self._calibration.grams(layer), self._dense.block_state(layer)
        for name, kept, index in wanted:
            weight, bias = dense[f"{name}.weight"], dense.get(f"{name}.bias")
            gram = grams[index].to(self._device)
            refit = closed_form(
                weight, bias, gram, kept, damping=self._damping, dtype=self._dtype, residuals=self._want_residuals
            )
            result[f"{name}.weight"] = refit.weight.to(weight.device, weight.dtype)
            if bias is not None and refit.bias is not None:
                result[f"{name}.bias"] = refit.bias.to(bias.device, bias.dtype)
            if self._want_residuals:
                self.residuals.append(Residual(layer, name, refit.residual_before, refit.residual_after))
        return result
