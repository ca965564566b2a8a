"""Scores of channels inside heads: the paper's importance, and what reconstruction cannot repair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from nas_llm.calibration._gram import BlockGrams, damped
from nas_llm.calibration._importance import importance_channels
from nas_llm.calibration._obs import elimination_ranks
from nas_llm.models import DenseModel
from nas_llm.space import Architecture, AttentionLayout

HeadScorer = Callable[..., Tensor]


def head_importance(
    dense: DenseModel,
    weights: Mapping[str, Tensor],
    grams: BlockGrams,
    layout: AttentionLayout,
    *,
    score_gram: Tensor,
    damping: float,
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
        score_gram: Of no meaning here.
        damping: Ridge on X X^T as a fraction of its mean diagonal.

    Returns:
        ``units`` scores of a row, float64 on the CPU.
    """
    q, k, v, o = (term / term.mean().clamp_min(1e-300) for term in importance_channels(dense, weights, grams, damping))
    return _row(layout, q + k, v + o)


def head_obs(
    dense: DenseModel,
    weights: Mapping[str, Tensor],
    grams: BlockGrams,
    layout: AttentionLayout,
    *,
    score_gram: Tensor,
    damping: float,
) -> Tensor:
    """Score units inside heads by what leaves with them.

    Channels of v and o are eliminated exactly, every head losing equally many between two updates (see :func:`obs`).
    So are units of q and k, from the attention scores instead of the output: what counts is what the others cannot make
    up for by factors of their own. Where one mask is for both, the costs of both are added, each divided by its mean.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
        layout: Of the masks.
        score_gram: ``H x d x d``, see :class:`nas_llm.calibration.ScoreGrams`.
        damping: Ridge on X X^T, and on the score Gram, as a fraction of its mean diagonal.

    Returns:
        ``units`` scores of a row, float64 on the CPU.
    """
    a, names = dense.architecture, dense.adapter.names
    # Columns of o by KV head and channel, those of its query heads side by side.
    places = torch.arange(a.num_heads * a.head_dim, device=grams.o_in.matrix.device)
    places = places.view(a.num_kv_heads, a.heads_per_group, a.head_dim).transpose(1, 2).reshape(-1)
    hessian, output = damped(grams.o_in.matrix, damping)[places][:, places], weights[f"{names.o}.weight"][:, places]
    if len(layout.axes) == 1:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian)).diagonal()
        vo = (output.double().square().sum(0) / inverse).view(a.num_kv_heads, a.head_dim, -1).sum(-1)
        qk = score_costs(a, score_gram.to(vo.device), damping)
        vo, qk = (term / term.mean().clamp_min(1e-300) for term in (vo, qk))
        return _row(layout, qk, vo)
    at_once = max(1, a.head_dim // 32)
    ranks = elimination_ranks(output, hessian, width=a.heads_per_group, at_once=at_once, heads=a.num_kv_heads)
    return _row(layout, score_ranks(a, score_gram, damping), ranks.view(a.num_kv_heads, a.head_dim))


def score_costs(architecture: Architecture, score_gram: Tensor, damping: float) -> Tensor:
    """What the attention scores lose with each unit of q and k alone, the others refitted: ``K x d`` float64.

    Each of the two channels of a rotary pair gets half of the pair's.

    Args:
        architecture: The model's.
        score_gram: ``H x d x d``, see :class:`nas_llm.calibration.ScoreGrams`.
        damping: Ridge as a fraction of the mean diagonal.
    """
    a, pairs = architecture, architecture.rotary_channels // 2
    inverse = torch.stack([torch.cholesky_inverse(torch.linalg.cholesky(damped(gram, damping))) for gram in score_gram])
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    costs = 1.0 / diagonal
    if pairs:
        # The real part leaves with the imaginary one, which counts nothing: (B^-1)_00 of the pair's block B.
        real, imaginary = diagonal[:, :pairs], diagonal[:, pairs : 2 * pairs]
        across = inverse[:, range(pairs), range(pairs, 2 * pairs)]
        both = imaginary / (real * imaginary - across.square())
        costs[:, :pairs], costs[:, pairs : 2 * pairs] = both / 2.0, both / 2.0
    return costs.view(a.num_kv_heads, a.heads_per_group, a.head_dim).sum(1)


def score_ranks(architecture: Architecture, score_gram: Tensor, damping: float) -> Tensor:
    """In which order units of q and k leave every KV head, the others refitted each time: ``K x d`` float64.

    Rotary pairs, whose two channels have the same rank, and other channels are ranked among themselves.

    Args:
        architecture: The model's.
        score_gram: ``H x d x d``, see :class:`nas_llm.calibration.ScoreGrams`.
        damping: Ridge as a fraction of the mean diagonal.
    """
    a, turned = architecture, architecture.rotary_channels
    ranks = torch.empty(a.num_kv_heads, a.head_dim, dtype=torch.float64)
    for group, grams in enumerate(score_gram.double().view(a.num_kv_heads, -1, a.head_dim, a.head_dim)):
        for first, last, parts in ((0, turned, 2), (turned, a.head_dim, 1)):
            if first == last:
                continue
            # Features of a unit side by side, for all query heads: each head has a map of its own.
            units = (last - first) // parts
            places = torch.arange(a.heads_per_group * (last - first), device=grams.device)
            places = places.view(a.heads_per_group, parts, units).permute(2, 0, 1).reshape(-1)
            blocks = [damped(gram[first:last, first:last], damping) for gram in grams]
            hessian = torch.block_diag(*blocks)[places][:, places]
            counted = torch.ones(a.heads_per_group, parts, units, device=grams.device)
            counted[:, 1:] = 0.0
            row = counted.reshape(1, -1)[:, places]
            found = elimination_ranks(row, hessian, width=a.heads_per_group * parts)
            ranks[group, first:last] = found.repeat(parts)
    return ranks


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
