"""What a refit of one output projection starts from and results in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_llm.calibration import Gram
from nas_llm.models import one_thread
from nas_llm.space import BoolArray

# Rows of a float64 matrix that one thread factors in a tenth of a second.
_QUICK = 2048


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


class Projection:
    """A dense projection and the second moments of its inputs, in the arithmetic of the solve.

    With a bias, the moments are centred: the bias takes up the mean.

    Args:
        weight: ``out x n`` dense weights.
        bias: ``out`` or None.
        gram: Second moments of the n inputs.
        kept: ``n`` bool, at least one True.
        dtype: Arithmetic of the solve.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, gram: Gram, kept: BoolArray, dtype: torch.dtype) -> None:
        device = gram.matrix.device
        self.weight = weight.to(device, dtype)
        self.hessian = gram.matrix.to(dtype)
        self.mask = torch.tensor(kept, device=device)
        self.kept, self.omitted = self.mask.nonzero()[:, 0], (~self.mask).nonzero()[:, 0]
        self.inherited = self.weight.index_select(1, self.kept)
        self._bias = bias
        self._mean = gram.total.to(dtype) / gram.tokens
        if bias is not None:
            self.hessian = self.hessian - gram.tokens * torch.outer(self._mean, self._mean)

    def ridge(self, damping: float) -> Tensor:
        """lambda = damping x mean diagonal of H."""
        return damping * self.hessian.diagonal().mean()

    def unchanged(self) -> Refit:
        """The answer when nothing is omitted."""
        return Refit(self.inherited, self._bias, 0.0, 0.0)

    def refit(self, new: Tensor, *, residuals: bool) -> Refit:
        """The result for new weights of the kept columns.

        Args:
            new: ``out x |S|``.
            residuals: Whether to compute the residuals (two more products); else they are NaN.
        """
        s, r = self.kept, self.omitted
        bias = None
        if self._bias is not None:
            with one_thread():
                bias = self._bias.to(new) + self.weight[:, r] @ self._mean[r] + (self.inherited - new) @ self._mean[s]
        before = after = float("nan")
        if residuals:
            total = energy(self.weight, self.hessian)
            before = energy(self.weight[:, r], self.hessian[r][:, r]) / total
            update = torch.zeros_like(self.weight)
            update[:, s], update[:, r] = new - self.inherited, -self.weight[:, r]
            after = energy(update, self.hessian) / total
        return Refit(new, bias, before, after)


def ridge_solve(gram: Tensor, rows: Tensor, ridge: Tensor) -> Tensor:
    """``rows (gram + ridge I)^-1``; the ridge grows until the factorisation succeeds.

    On a CPU the result does not depend on the number of threads, but for more than 2,048 rows of float64.

    Args:
        gram: ``n x n``, symmetric; its diagonal is overwritten.
        rows: ``m x n``.
        ridge: Scalar.
    """
    diagonal = gram.diagonal().clone()
    floor = (torch.finfo(gram.dtype).eps * diagonal.mean()).clamp_min(torch.finfo(gram.dtype).tiny)
    with steady(gram):
        for _ in range(20):
            gram.diagonal().copy_(diagonal + ridge)
            factor, info = torch.linalg.cholesky_ex(gram)
            if int(info) == 0:
                return torch.cholesky_solve(rows.T, factor).T
            ridge = torch.maximum(ridge * 10.0, floor)
    # Only an all-zero or non-finite Gram gets here; nothing can be learnt from it.
    return torch.zeros_like(rows)


def steady(matrix: Tensor) -> AbstractContextManager[None]:
    """Where a matrix should be factored, so that no bit depends on the number of threads.

    What evaluates candidates, in float32, must be the same for all: those that share the cores and one that is alone.
    What finishes them, in float64, takes all threads where one would take more than a tenth of a second.
    """
    alone = matrix.device.type == "cpu" and (matrix.dtype == torch.float32 or len(matrix) <= _QUICK)
    return one_thread() if alone else nullcontext()


def energy(rows: Tensor, gram: Tensor) -> float:
    """tr(rows gram rows^T), kept above zero."""
    parts = (rows @ gram) * rows
    with one_thread():
        return float(parts.sum().clamp_min(0.0)) or float(torch.finfo(gram.dtype).tiny)
