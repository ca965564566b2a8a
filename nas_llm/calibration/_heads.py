"""Scores of channels inside heads: the paper's importance, and what reconstruction cannot repair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nas_llm.calibration._gram import BlockGrams, Gram, damped
from nas_llm.calibration._importance import importance_channels
from nas_llm.calibration._obs import elimination_ranks
from nas_llm.models import DenseModel
from nas_llm.space import AttentionLayout

HeadScorer = Callable[..., Tensor]


def head_importance(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, layout: AttentionLayout, *, damping: float
) -> Tensor:
    """Score units inside heads by the paper's equations 1-3.

    A unit's score is the sum over its channels of their row scores in q (of all query heads of the group), k and v and
    their column scores in o, as far as its mask selects them; each term is divided by its mean first, as
    :func:`importance` does.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
        layout: Of the masks.
        damping: Ridge on X X^T as a fraction of its mean diagonal.

    Returns:
        ``units`` scores of a row, float64 on the CPU.
    """
    q, k, v, o = (term / term.mean().clamp_min(1e-300) for term in importance_channels(dense, weights, grams, damping))
    return _row(layout, q + k, v + o)


def head_obs(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, layout: AttentionLayout, *, damping: float
) -> Tensor:
    """Score units inside heads by what leaves with them.

    Channels of v and o are eliminated exactly, every head losing equally many between two updates (see :func:`obs`).
    Units of q and k, which no refit makes up for, count by the second moment of what they add to the scores,
    E[q^2] E[k^2] summed over the query heads of the group. Where one mask is for both, the costs of both are added,
    each divided by its mean.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
        layout: Of the masks.
        damping: Ridge on X X^T as a fraction of its mean diagonal.

    Returns:
        ``units`` scores of a row, float64 on the CPU.
    """
    a, names = dense.architecture, dense.adapter.names
    qk = score_moments(dense, weights, grams)
    # Columns of o by KV head and channel, those of its query heads side by side.
    places = torch.arange(a.num_heads * a.head_dim, device=grams.o_in.matrix.device)
    places = places.view(a.num_kv_heads, a.heads_per_group, a.head_dim).transpose(1, 2).reshape(-1)
    hessian, output = damped(grams.o_in.matrix, damping)[places][:, places], weights[f"{names.o}.weight"][:, places]
    if len(layout.axes) == 1:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian)).diagonal()
        vo = (output.double().square().sum(0) / inverse).view(a.num_kv_heads, a.head_dim, -1).sum(-1)
        vo, qk = (term / term.mean().clamp_min(1e-300) for term in (vo, qk))
        return _row(layout, qk, vo)
    at_once = max(1, a.head_dim // 32)
    ranks = elimination_ranks(output, hessian, width=a.heads_per_group, at_once=at_once, heads=a.num_kv_heads)
    return _row(layout, qk, ranks.view(a.num_kv_heads, a.head_dim))


def score_moments(dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams) -> Tensor:
    """Second moments of what each channel of q and k adds to the attention scores: ``K x d`` float64.

    Rotary positions turn a pair of channels, so its moments are those of its two channels together; each of the two
    gets half of the pair's.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
    """
    a, names = dense.architecture, dense.adapter.names
    query, key = (_moments(weights, name, grams.attn_in) for name in (names.q, names.k))
    query = query.view(a.num_kv_heads, a.heads_per_group, a.head_dim).sum(1)
    key = key.view(a.num_kv_heads, a.head_dim)
    pairs = a.rotary_channels // 2
    if pairs:
        for moments in (query, key):
            both = moments[:, :pairs] + moments[:, pairs : 2 * pairs]
            moments[:, :pairs], moments[:, pairs : 2 * pairs] = both, both
    found = query * key
    found[:, : 2 * pairs] /= 2.0
    return found


def _moments(weights: Mapping[str, Tensor], name: str, gram: Gram) -> Tensor:
    """Mean square of each output of a projection."""
    weight, bias = weights[f"{name}.weight"].double(), weights.get(f"{name}.bias")
    matrix, total = gram.matrix.double() / gram.tokens, gram.total.double() / gram.tokens
    found = ((weight @ matrix) * weight).sum(1)
    return found if bias is None else found + 2.0 * bias.double() * (weight @ total) + bias.double().square()


def _row(layout: AttentionLayout, qk: Tensor, vo: Tensor) -> Tensor:
    """The row of ``K x d`` scores of channels: a unit's is the sum over its channels."""
    pairs = layout.rotary_dim // 2
    parts = []
    for axis, scores in zip(layout.axes, (qk + vo,) if len(layout.axes) == 1 else (qk, vo), strict=True):
        if axis.units < layout.head_dim:
            turned = scores[:, :pairs] + scores[:, pairs : 2 * pairs]
            scores = torch.cat([turned, scores[:, 2 * pairs :]], dim=1)
        parts.append(scores.reshape(-1))
    return torch.cat(parts).cpu()


HEAD_SCORERS: Mapping[str, HeadScorer] = {"importance": head_importance, "obs": head_obs}
