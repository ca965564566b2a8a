"""Causal attention for bfloat16 on a CPU, where torch's fused kernel is far from the speed of the matrix units."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# Queries that are handled together: large enough for the matrix units, small enough to waste little above the diagonal.
_QUERY_BLOCK = 128


def blocked_causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
    """Softmax attention of full causal windows, one block of queries after the other.

    The query heads of a KV group are rows of one product, so keys and values are not repeated; a block of queries
    meets only the keys up to its own end.

    Args:
        query: ``B x H x T x d``.
        key: ``B x K x T x d``, K a divisor of H.
        value: ``B x K x T x d``.
        scaling: Factor of the scores.

    Returns:
        ``B x T x H x d``.
    """
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    per_group = heads // groups
    keys = key.reshape(batch * groups, length, width).transpose(1, 2)
    values = value.reshape(batch * groups, length, value.shape[-1])
    query = (query * scaling).reshape(batch, groups, per_group, length, width)
    block = min(_QUERY_BLOCK, length)
    future = query.new_full((block, block), float("-inf")).triu(1)
    result = query.new_empty(batch, length, groups, per_group, value.shape[-1])
    for start in range(0, length, block):
        end = min(start + block, length)
        rows = query[:, :, :, start:end].reshape(batch * groups, per_group * (end - start), width)
        scores = torch.bmm(rows, keys[:, :, :end]).view(batch, groups, per_group, end - start, end)
        scores[..., start:] += future[: end - start, : end - start]
        weights = scores.softmax(-1).view(batch * groups, per_group * (end - start), end)
        mixed = torch.bmm(weights, values[:, :end]).view(batch, groups, per_group, end - start, -1)
        result[:, start:end] = mixed.permute(0, 3, 1, 2, 4)
    return result.view(batch, length, heads, -1)


def causal_attention(query: Tensor, key: Tensor, value: Tensor, *, scaling: float) -> Tensor:
    """Softmax attention of full causal windows by torch's own kernel.

    On a CPU that kernel wants values as wide as keys: otherwise torch takes another, which holds all scores and takes
    three times as long. So the narrower ones are filled up with zeros, which changes nothing.

    Args:
        query: ``B x H x T x d``.
        key: ``B x K x T x d``, K a divisor of H.
        value: ``B x K x T x e``.
        scaling: Factor of the scores.

    Returns:
        ``B x T x H x e``.
    """
    kept = value.shape[-1]
    missing = key.shape[-1] - kept if value.device.type == "cpu" else 0
    if missing > 0:
        value = functional.pad(value, (0, missing))
    elif missing < 0:
        query, key = (functional.pad(states, (0, -missing)) for states in (query, key))
    mixed = functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scaling, enable_gqa=query.shape[1] != key.shape[1]
    )
    return mixed[..., :kept].transpose(1, 2)


def blocked_attention_is_faster(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether :func:`blocked_causal_attention` beats torch's own kernel: for bfloat16 on a CPU it does."""
    return device.type == "cpu" and dtype == torch.bfloat16
