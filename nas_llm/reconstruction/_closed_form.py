"""Exact least-squares refit of an output projection to the inputs that remain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nas_llm.calibration import Gram
from nas_llm.reconstruction._refit import Projection, Refit, ridge_solve
from nas_llm.settings import ReconstructionDefaults
from nas_llm.space import BoolArray


def closed_form(
    weight: Tensor,
    bias: Tensor | None,
    gram: Gram,
    kept: BoolArray,
    *,
    damping: float = ReconstructionDefaults.damping,
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
        damping: Ridge as a fraction of the mean diagonal; infinity keeps the inherited weights.
        dtype: Arithmetic of the solve.
        residuals: Whether to compute the residuals (two more products).
    """
    problem = Projection(weight, bias, gram, kept, dtype)
    s, r = problem.kept, problem.omitted
    if not len(r):
        return problem.unchanged()
    if math.isinf(damping):
        return problem.refit(problem.inherited, residuals=residuals)
    columns = problem.hessian.index_select(1, s)
    missing = problem.weight.index_select(1, r) @ columns.index_select(0, r)
    update = ridge_solve(columns.index_select(0, s), missing, problem.ridge(damping))
    return problem.refit(problem.inherited + update, residuals=residuals)
