"""One Llama block on full causal windows, with fewer passes over memory than transformers' modules make."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nas_llm.models._attention import blocked_attention_is_faster, blocked_causal_attention, causal_attention
from nas_llm.models._threads import one_thread
from nas_llm.models.families._base import BlockNames


@dataclass(frozen=True, kw_only=True)
class BlockTraits:
    """In what a block that is built as Llama's differs from it.

    Attributes:
        eps: Of all RMSNorms.
        activation: Of the gate.
        scaling: Factor of the attention scores.
        residual: Factor of what a sublayer adds to the residual stream.
        centred: Whether RMSNorms multiply by 1 + their weight, before they round.
        qk_norms: Norms of each head of queries and of keys, before they are turned.
        out_norms: Norms of what attention and FFN give, before it is added.
        rotary: Whether queries and keys are turned.
    """

    eps: float
    activation: Callable[[Tensor], Tensor]
    scaling: float
    residual: float = 1.0
    centred: bool = False
    qk_norms: tuple[str, str] | None = None
    out_norms: tuple[str, str] | None = None
    rotary: bool = True


class LlamaBlock:
    """A sliced block that is built as Llama's: what the family's subnet class computes, up to rounding.

    Residuals are added within the output projections (one rounding instead of two), q, k and v are one product, rotary
    embedding is applied to q and k together, activations are changed in place.

    Args:
        traits: In what it differs from Llama's.
        names: Module names of the family.
        head_dim: d.
        state: State dict of the sliced block, on its device in its dtype.
    """

    def __init__(self, traits: BlockTraits, names: BlockNames, head_dim: int, state: Mapping[str, Tensor]) -> None:
        self._traits = traits
        self._names = names
        self._in_place = traits.activation is functional.silu
        self._state = state
        self._weights = {
            name: 1.0 + state[f"{name}.weight"].float() if traits.centred else state[f"{name}.weight"]
            for name in names.norms
            if f"{name}.weight" in state
        }
        self._has_attention = f"{names.q}.weight" in state
        self._has_mlp = f"{names.fc2}.weight" in state
        if self._has_attention:
            kept = state.get(names.kept_units)
            k_rows, v_rows = (state[f"{name}.weight"].shape[0] for name in (names.k, names.v))
            self._groups = k_rows // head_dim if kept is None else kept.shape[0]
            self._qk_width, self._v_width = k_rows // self._groups, v_rows // self._groups
            self._heads = state[f"{names.q}.weight"].shape[0] // self._qk_width
            self._heads_weight = None
            if traits.qk_norms is not None:
                q_norm, k_norm = (self._weights[name] for name in traits.qk_norms)
                self._heads_weight = torch.cat([q_norm.expand(self._heads, -1), k_norm.expand(self._groups, -1)])
            self._pairs = None
            if kept is not None:
                pairs = kept[:, : self._qk_width - kept.shape[1]]
                # Of the query heads, then of the keys, as they are rotated together.
                self._pairs = torch.cat([pairs.repeat_interleave(self._heads // self._groups, 0), pairs])
            self._qkv = torch.cat([state[f"{name}.weight"] for name in (names.q, names.k, names.v)])
            biases = [state[f"{name}.bias"] for name in (names.q, names.k, names.v) if f"{name}.bias" in state]
            self._qkv_bias = torch.cat(biases) if biases else None

    def __call__(self, hidden: Tensor, *, position_embeddings: tuple[Tensor, Tensor], **_: Any) -> Tensor:
        """Run the block.

        Args:
            hidden: ``B x T x D``; left as it is.
            position_embeddings: Cosines and sines, each ``1 x T x d``.

        Returns:
            ``B x T x D``.
        """
        states = hidden.flatten(0, 1)
        if self._has_attention:
            mixed = self._attention(self._norm(states, self._names.attn_norm), hidden.shape, *position_embeddings)
            states = self._project(states, mixed, self._names.o, 0)
        if self._has_mlp:
            normed = self._norm(states, self._names.mlp_norm)
            gate, up = (self._linear(normed, name) for name in self._names.fc1)
            with one_thread():
                gate = functional.silu(gate, inplace=True) if self._in_place else self._traits.activation(gate)
            states = self._project(states, gate.mul_(up), self._names.fc2, 1)
        return states.view(hidden.shape)

    def _attention(self, normed: Tensor, shape: torch.Size, cosines: Tensor, sines: Tensor) -> Tensor:
        batch, length, _ = shape
        qkv = functional.linear(normed, self._qkv, self._qkv_bias).view(batch, length, -1)
        turned = (self._heads + self._groups) * self._qk_width
        qk = qkv[:, :, :turned].unflatten(-1, (-1, self._qk_width))
        if self._heads_weight is not None:
            qk = self._normed(qk, self._heads_weight)
        rotated = qk if not self._traits.rotary else _rotate(qk, cosines, sines, self._pairs)
        query = rotated[:, :, : self._heads].transpose(1, 2)
        key = rotated[:, :, self._heads :].transpose(1, 2)
        value = qkv[:, :, turned:].unflatten(-1, (-1, self._v_width)).transpose(1, 2)
        scaling = self._traits.scaling
        if blocked_attention_is_faster(qkv.device, qkv.dtype):
            mixed = blocked_causal_attention(query, key, value, scaling=scaling)
        else:
            mixed = causal_attention(query, key, value, scaling=scaling)
        return mixed.reshape(batch * length, -1)

    def _norm(self, states: Tensor, name: str) -> Tensor:
        return self._normed(states, self._weights[name])

    def _normed(self, states: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm in float32."""
        exact = states.float()
        scale = torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square_().div_(states.shape[-1])
        scale = scale.add_(self._traits.eps).rsqrt_()
        normed = exact * scale if exact is states else exact.mul_(scale)
        if self._traits.centred:
            return normed.mul_(weight).to(states.dtype)
        return normed.to(states.dtype).mul_(weight)

    def _linear(self, inputs: Tensor, name: str) -> Tensor:
        return functional.linear(inputs, self._state[f"{name}.weight"], self._state.get(f"{name}.bias"))

    def _project(self, residual: Tensor, inputs: Tensor, name: str, sublayer: int) -> Tensor:
        """``residual + factor (inputs W^T + b)``, what is in brackets normed where the family does so."""
        traits = self._traits
        if traits.out_norms is not None:
            return self._norm(self._linear(inputs, name), traits.out_norms[sublayer]).add_(residual)
        result = torch.addmm(residual, inputs, self._state[f"{name}.weight"].T, alpha=traits.residual)
        bias = self._state.get(f"{name}.bias")
        return result if bias is None else result.add_(bias, alpha=traits.residual)


def _rotate(heads: Tensor, cosines: Tensor, sines: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Rotary embedding of ``B x T x heads x d``; both halves of a table are equal.

    Args:
        heads: Queries and keys.
        cosines: ``1 x T x r``.
        sines: ``1 x T x r``.
        pairs: ``heads x n``, places in the tables of the pairs that each head has; default: all.
    """
    half = heads.shape[-1] // 2 if pairs is None else pairs.shape[1]
    if pairs is None:
        cosines, sines = cosines[..., :half].unsqueeze(2), sines[..., :half].unsqueeze(2)
    else:
        cosines, sines = cosines[..., pairs], sines[..., pairs]
    first, second = heads[..., :half], heads[..., half : 2 * half]
    result = torch.empty_like(heads, memory_format=torch.contiguous_format)
    torch.mul(first, cosines, out=result[..., :half]).addcmul_(second, sines, value=-1.0)
    torch.mul(second, cosines, out=result[..., half : 2 * half]).addcmul_(first, sines)
    if heads.shape[-1] > 2 * half:
        result[..., 2 * half :] = heads[..., 2 * half :]
    return result
