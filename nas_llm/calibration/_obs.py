"""Nested removal order by exact block elimination on the output projections (optimal brain surgeon)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas_llm.calibration._gram import BlockGrams, damped
from nas_llm.models import DenseModel
from nas_llm.settings import CalibrationDefaults

# Columns removed between two updates: one at a time costs ten times as much for the same order in practice.
_COLUMNS_AT_ONCE = 64


def obs(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, *, damping: float = CalibrationDefaults.damping
) -> tuple[Tensor, Tensor]:
    """Score a block's units by when they are eliminated; accounts for what reconstruction will repair.

    Units are removed from the output projection, cheapest first, cost ``tr(W_R ([H^-1]_RR)^-1 W_R^T)`` with
    H = X X^T + damping; after each removal the remaining weights and H^-1 are updated exactly (Hassibi & Stork 1993,
    in blocks). One order per layer results, so that smaller subnets are nested in larger ones.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
        damping: Ridge on X X^T as a fraction of its mean diagonal.

    Returns:
        ``K`` scores of KV groups and ``P`` scores of FFN channels, float64: the rank of removal, 0 = removed first.
    """
    names, architecture = dense.adapter.names, dense.architecture
    group_width = architecture.heads_per_group * architecture.head_dim
    attn = elimination_ranks(weights[f"{names.o}.weight"], damped(grams.o_in.matrix, damping), width=group_width)
    mlp = elimination_ranks(
        weights[f"{names.fc2}.weight"], damped(grams.fc2_in.matrix, damping), width=1, at_once=_COLUMNS_AT_ONCE
    )
    return attn, mlp


def elimination_ranks(weight: Tensor, hessian: Tensor, *, width: int, at_once: int = 1, heads: int = 1) -> Tensor:
    """Order in which groups of adjacent columns leave a linear map.

    Args:
        weight: ``out x n``.
        hessian: ``n x n`` positive definite, on any device.
        width: Columns of one group; divides n.
        at_once: Groups removed between two updates.
        heads: Parts of equally many adjacent groups that lose equally many between two updates.

    Returns:
        ``n / width`` float64 on the CPU: 0 for the group removed first, of each part.
    """
    w = weight.to(hessian.device, torch.float64).clone()
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    groups = hessian.shape[0] // width
    alive = torch.arange(groups, device=hessian.device)
    ranks = torch.empty(groups, dtype=torch.float64)
    removed = 0
    while len(alive):
        # In float32: copies of one unit cost the same, though inverses differ from one number of threads to another.
        costs = _costs(w, inverse, width).float()
        left = len(alive) // heads
        chosen = costs.view(heads, left).argsort(dim=1, stable=True)[:, :at_once]
        order = (chosen + left * torch.arange(heads, device=chosen.device)[:, None]).reshape(-1)
        count = chosen.shape[1]
        places = torch.arange(removed, removed + count, dtype=torch.float64).repeat(heads)
        ranks[alive[order].cpu()] = places
        removed += count
        keep = torch.ones(len(alive), dtype=torch.bool, device=alive.device)
        keep[order] = False
        alive = alive[keep]
        if not len(alive):
            break
        kept = keep.repeat_interleave(width)
        gone = ~kept
        ratio = _solve(inverse[gone][:, gone], inverse[gone][:, kept])
        w = w[:, kept] - w[:, gone] @ ratio
        inverse = inverse[kept][:, kept] - inverse[kept][:, gone] @ ratio
    return ranks


def _costs(w: Tensor, inverse: Tensor, width: int) -> Tensor:
    if width == 1:
        costs: Tensor = w.square().sum(0) / inverse.diagonal()
        return costs
    count = w.shape[1] // width
    blocks = inverse.view(count, width, count, width)[torch.arange(count), :, torch.arange(count)]
    columns = w.view(-1, count, width).permute(1, 2, 0)
    # One at a time: the batched LU of some builds fails on several threads.
    solved = torch.stack([_solve(block, part) for block, part in zip(blocks, columns, strict=True)])
    return torch.sum(columns * solved, dim=(1, 2))


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix^-1 right`` for a symmetric positive definite matrix."""
    return torch.cholesky_solve(right, torch.linalg.cholesky(matrix))
