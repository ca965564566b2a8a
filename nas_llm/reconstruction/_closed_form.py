"""Exact least-squares refit of an output projection to the inputs that remain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_llm.calibration import Gram
from nas_llm.space import BoolArray


@dataclass(frozen=True, eq=False)
class Refit:
    """A refitted projection.

    Attributes:
        weight: ``out x |S|``, the weights of the kept columns.
        bias: ``out``, or None when the projection has none.
        residual_before: ||W X - W_S X_S||^2 / ||W X||^2 with the inherited weights.
        residual_after: The same with the refitted ones.
    """

    weight: Tensor
    bias: Tensor | None
    residual_before: float
    residual_after: float


def closed_form(
    weight: Tensor,
    bias: Tensor | None,
    gram: Gram,
    kept: BoolArray,
    *,
    damping: float,
    dtype: torch.dtype = torch.float64,
    residuals: bool = True,
) -> Refit:
    """Minimise ||W X - W' X_S||^2 over W', with a ridge on the update.

    ``W' = W_S + W_R H_RS (H_SS + lambda I)^-1`` with H = X X^T and lambda = damping x mean diagonal of H: exact, since
    the kept set S is shared by all rows; lambda pulls towards the inherited weights, not towards zero (section 3.4 of
    the paper solves the same problem with ADMM). With a bias, X is centred and the bias takes up the mean.

    Args:
        weight: ``out x n`` dense weights.
        bias: ``out`` or None.
        gram: Second moments of the n inputs.
        kept: ``n`` bool, at least one True.
        damping: Ridge as a fraction of the mean diagonal.
        dtype: Arithmetic of the solve.
        residuals: Whether to compute the residuals (two more products).
    """
    device = gram.matrix.device
    hessian, w = gram.matrix.to(dtype), weight.to(device, dtype)
    mean = gram.total.to(dtype) / gram.tokens
    if bias is not None:
        hessian = hessian - gram.tokens * torch.outer(mean, mean)
    mask = torch.tensor(kept, device=device)
    s, r = mask.nonzero()[:, 0], (~mask).nonzero()[:, 0]
    inherited = w.index_select(1, s)
    if not len(r):
        return Refit(inherited, bias, 0.0, 0.0)
    columns = hessian.index_select(1, s)
    missing = w.index_select(1, r) @ columns.index_select(0, r)
    new = inherited + _ridge_solve(columns.index_select(0, s), missing, damping * hessian.diagonal().mean())
    new_bias = None
    if bias is not None:
        new_bias = bias.to(device, dtype) + w[:, r] @ mean[r] + (inherited - new) @ mean[s]
    before = after = float("nan")
    if residuals:
        total = _energy(w, hessian)
        before = _energy(w[:, r], hessian[r][:, r]) / total
        update = torch.zeros_like(w)
        update[:, s], update[:, r] = new - inherited, -w[:, r]
        after = _energy(update, hessian) / total
    return Refit(new, new_bias, before, after)


def _ridge_solve(gram: Tensor, rows: Tensor, ridge: Tensor) -> Tensor:
    """``rows (gram + ridge I)^-1``; the ridge grows until the factorisation succeeds."""
    ridge = ridge.clamp_min(torch.finfo(gram.dtype).tiny)
    diagonal = gram.diagonal().clone()
    for _ in range(20):
        gram.diagonal().copy_(diagonal + ridge)
        factor, info = torch.linalg.cholesky_ex(gram)
        if int(info) == 0:
            return torch.cholesky_solve(rows.T, factor).T
        ridge = ridge * 10.0
    # Only an all-zero or non-finite Gram gets here; nothing can be learnt from it.
    return torch.zeros_like(rows)


def _energy(rows: Tensor, gram: Tensor) -> float:
    return float(((rows @ gram) * rows).sum().clamp_min(0.0)) or float(torch.finfo(gram.dtype).tiny)
