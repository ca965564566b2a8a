"""The paper's iterative refit of an output projection (section 3.4), with its projection corrected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_llm.calibration import Gram
from nas_llm.reconstruction._refit import Projection, Refit, steady
from nas_llm.settings import AdmmDefaults, ReconstructionDefaults
from nas_llm.space import BoolArray


@dataclass(frozen=True, eq=False)
class AdmmRefit(Refit):
    """A projection refitted by ADMM, and how the iteration went.

    Attributes:
        primal: ||V - Z|| / ||W|| after each iteration, in normalised coordinates.
        dual: rho ||Z - Z_previous|| / ||W|| after each iteration, in normalised coordinates.
    """

    primal: tuple[float, ...]
    dual: tuple[float, ...]


def admm(
    weight: Tensor,
    bias: Tensor | None,
    gram: Gram,
    kept: BoolArray,
    *,
    damping: float = ReconstructionDefaults.damping,
    dtype: torch.dtype = torch.float64,
    residuals: bool = True,
    rho: float = AdmmDefaults.rho,
    iterations: int = AdmmDefaults.iterations,
) -> AdmmRefit:
    """Minimise ||W X - V X||^2 over V whose omitted columns are zero, by ADMM; the oracle of :func:`closed_form`.

    The ridge on the update, lambda ||(V - W)_S||^2, differs from lambda ||V - W||^2 by a constant, for the omitted
    columns of V are fixed. So the problem is tr((W - V) (H + lambda I) (W - V)^T), and it keeps its minimiser when
    inputs are scaled: with S = diag(H + lambda I) the iteration runs on S^-1/2 (H + lambda I) S^-1/2, whose diagonal
    is one and beside which rho = 1 is of the right size, and on W S^1/2. Run long, it ends where the closed form does.
    Its steps are equations 6-9 of the paper, except that equation 8 as printed would keep the omitted columns.

    Args:
        weight: ``out x n`` dense weights.
        bias: ``out`` or None; with a bias, X is centred and the bias takes up the mean.
        gram: Second moments of the n inputs.
        kept: ``n`` bool, at least one True.
        damping: lambda as a fraction of the mean diagonal of H; 0 is the paper's own objective,
            infinity keeps the inherited weights.
        dtype: Arithmetic of the iteration.
        residuals: Whether to compute the residuals (two more products).
        rho: Penalty of the splitting; moves the speed, not the limit.
        iterations: Number of iterations.
    """
    problem = Projection(weight, bias, gram, kept, dtype)
    if not len(problem.omitted):
        return _with_history(problem.unchanged(), [], [])
    if math.isinf(damping):
        return _with_history(problem.refit(problem.inherited, residuals=residuals), [], [])
    hessian = problem.hessian.clone()
    hessian.diagonal().add_(problem.ridge(damping))
    scale = hessian.diagonal().clamp_min(torch.finfo(dtype).tiny).sqrt()
    hessian.div_(scale).div_(scale[:, None])
    w = problem.weight * scale
    norm = float(w.norm()) or 1.0
    pull = w @ hessian
    hessian.diagonal().add_(rho)
    with steady(hessian):
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    keep = problem.mask.to(dtype)
    z, u = w * keep, torch.zeros_like(w)
    primal: list[float] = []
    dual: list[float] = []
    for _ in range(iterations):
        v = (pull + rho * (z - u)) @ inverse
        previous, z = z, (v + u) * keep
        gap = v - z
        u += gap
        primal.append(float(gap.norm()) / norm)
        dual.append(rho * float((z - previous).norm()) / norm)
    result = problem.refit((z / scale).index_select(1, problem.kept), residuals=residuals)
    return _with_history(result, primal, dual)


def _with_history(refit: Refit, primal: Sequence[float], dual: Sequence[float]) -> AdmmRefit:
    return AdmmRefit(refit.weight, refit.bias, refit.residual_before, refit.residual_after, tuple(primal), tuple(dual))
