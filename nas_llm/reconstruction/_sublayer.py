"""One sublayer of a block as a module of its own: hidden state in, hidden state out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nas_llm.models import DenseModel
from nas_llm.models.families import placed
from nas_llm.space import BoolArray

# Of the mean weight of a norm: channels of less are taken to have so much.
_LEAST_GAIN = 1e-3


@dataclass(frozen=True, eq=False)
class Trace:
    """One run of a sublayer.

    Attributes:
        hidden: ``w x T x D``, the hidden state behind the sublayer.
        inputs: ``w x T x n``, inputs of its output projection.
        outputs: ``w x T x D``, outputs of its output projection.
    """

    hidden: Tensor
    inputs: Tensor
    outputs: Tensor


class Sublayer:
    """The attention or the FFN half of a sliced block, with its norm and its residual sum.

    It is a block whose other sublayer is removed, so nothing here depends on the family. Where norms stand behind the
    sublayers, the other one's norm is taken out as well.

    Args:
        dense: The model.
        weights: State dict of its dense block.
        layer: Number of the block.
        attention: Attention, else FFN.
        mask: What the sublayer keeps: a row of the attention masks, or ``P`` bool for the FFN; may be all False.
        device: Where it runs.
        dtype: Its arithmetic.

    Attributes:
        attn_mask: A row of the attention masks, all False for an FFN.
        mlp_mask: ``P`` bool, all False for attention.
        state: Its state dict, where and in what it was given.
        sums: Whether the hidden state behind it is the one before it plus what it makes of its projection's output.
    """

    def __init__(
        self,
        dense: DenseModel,
        weights: Mapping[str, Tensor],
        *,
        layer: int,
        attention: bool,
        mask: BoolArray,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        adapter, architecture = dense.adapter, dense.architecture
        none = np.zeros(architecture.intermediate_size if attention else architecture.num_kv_heads, dtype=bool)
        attn_mask, mlp_mask = (mask, none) if attention else (none, mask)
        state = adapter.slice_block(architecture, weights, attn_mask, mlp_mask)
        self._block = adapter.block_module(dense.model.config, *adapter.sizes(architecture, state), layer=layer)
        self._block.load_state_dict(placed(state, device, dtype), assign=True)
        self._block.requires_grad_(False)
        if architecture.norm_outside:
            other = adapter.names.mlp_norm if attention else adapter.names.attn_norm
            self._block.set_submodule(other, nn.Identity())
        names = adapter.names
        self._name = names.o if attention else names.fc2
        self._rows = (names.q, names.k, names.v) if attention else names.fc1
        norm = names.attn_norm if attention else names.mlp_norm
        inside = mask.any() and not architecture.norm_outside
        self._norm: nn.Module = self._block.get_submodule(norm) if inside else nn.Identity()
        self.sums = not architecture.norm_outside
        self.attn_mask, self.mlp_mask, self.state = attn_mask, mlp_mask, state
        self._dense, self._layer, self._attention = dense, layer, attention

    @property
    def name(self) -> str:
        """Name of the output projection."""
        return self._name

    @property
    def weight(self) -> Tensor:
        """``D x n``, weight of the output projection, where and in what it was given."""
        return self.state[f"{self._name}.weight"]

    @property
    def bias(self) -> Tensor | None:
        """``D``, its bias, if it has one."""
        return self.state.get(f"{self._name}.bias")

    def normed(self, hidden: Tensor) -> Tensor:
        """``w x T x D``, what its first projections take in."""
        result: Tensor = self._norm(hidden)
        return result

    def realigned(self, update: Tensor, constant: Tensor | None) -> dict[str, Tensor]:
        """First projections W of inputs x turned into W (x + U x + c), by their names in the block.

        Args:
            update: ``D x D``, U.
            constant: ``D`` or None, c; only where the projections have biases.
        """
        result = {}
        for name in self._rows:
            weight, bias = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
            exact = weight.to(update)
            result[f"{name}.weight"] = (exact + exact @ update).to(weight)
            if bias is not None and constant is not None:
                result[f"{name}.bias"] = (bias.to(update) + exact @ constant).to(bias)
        return result

    @property
    def biased(self) -> bool:
        """Whether its first projections have biases."""
        return f"{self._rows[0]}.bias" in self.state

    def run(self, hidden: Tensor, context: Mapping[str, Any]) -> Tensor:
        """Hidden state behind the sublayer, ``w x T x D``."""
        own = self._dense.adapter.layer_context(self._dense.model.config, context, self._layer)
        result: Tensor = self._block(hidden, **own)
        return result

    def project(self, inputs: Tensor) -> Tensor:
        """What its output projection makes of ``w x T x n`` inputs."""
        result: Tensor = self._block.get_submodule(self._name)(inputs)
        return result

    def added(self, outputs: Tensor) -> Tensor:
        """What the residual stream gets of ``w x T x D`` outputs; only where ``sums``."""
        config = self._dense.model.config
        return self._dense.adapter.added(config, self._block, outputs, attention=self._attention)

    def gain(self, outputs: Tensor) -> Tensor | None:
        """How much the residual stream gets of a small change of the outputs, ``w x T x D``; None = all of it.

        A norm behind the projection is taken as the factor that it is for these outputs: by how much it scales each
        token, times its weights.

        Args:
            outputs: ``w x T x D``.
        """
        added = self.added(outputs) if self.sums else outputs
        if added is outputs:
            return None
        weights = self.added(torch.ones_like(outputs[:1, :1]))
        least = _LEAST_GAIN * weights.abs().mean()
        weights = torch.where(weights.abs() < least, least, weights)
        length = torch.linalg.vector_norm
        scales: Tensor = length(added, dim=-1, keepdim=True) / length(outputs * weights, dim=-1, keepdim=True)
        return weights * scales

    def trace(self, hidden: Tensor, context: Mapping[str, Any]) -> Trace:
        """The same, with what went into the output projection and came out of it."""
        seen: list[tuple[Tensor, Tensor]] = []
        hook = self._block.get_submodule(self._name).register_forward_hook(
            lambda module, args, output: seen.append((args[0], output))
        )
        try:
            result = self.run(hidden, context)
        finally:
            hook.remove()
        windows = hidden.shape[:2]
        inputs, outputs = (part.reshape(*windows, part.shape[-1]) for part in seen[0])
        return Trace(result, inputs, outputs)

    def replace(self, refitted: Mapping[str, Tensor]) -> None:
        """Exchange weights of its projections, by their names in the block."""
        self.state.update(refitted)
        self._block.load_state_dict(
            {name: w.to(self._block.get_parameter(name)) for name, w in refitted.items()}, strict=False, assign=True
        )
        self._block.requires_grad_(False)
