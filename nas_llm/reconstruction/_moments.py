"""Second moments of a sublayer's inputs and of its output error: all that a sequential refit needs of the tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nas_llm.models import one_thread
from nas_llm.reconstruction._refit import ridge_solve
from nas_llm.settings import SequentialDefaults


@dataclass(frozen=True, kw_only=True)
class TokenWeights:
    """How much each token counts in a refit.

    Attributes:
        skip_positions: First positions of every window that do not count (attention sinks live there).
        max_norm: An input longer than this many times the median of its window counts as if it and its error were
            scaled down to that length (winsorised norms); None leaves all as they are.
        relative: Whether errors count relative to the dense model's residual stream behind the sublayer, which is what
            the next norm makes of them; else all count alike, and a few tokens whose stream is hundreds of times as
            long decide alone.
    """

    skip_positions: int = 0
    max_norm: float | None = None
    relative: bool = SequentialDefaults.token_weights == "relative"

    def roots(self, inputs: Tensor, stream: Tensor) -> Tensor | None:
        """Square roots of the weights, ``windows x T``; None = all one.

        A token's weight depends on its own window only, so that results do not depend on the batch.

        Args:
            inputs: ``windows x T x n`` inputs of the projection.
            stream: ``windows x T x D``, the dense model's residual stream behind the sublayer.
        """
        if not self.skip_positions and self.max_norm is None and not self.relative:
            return None
        roots = inputs.new_ones(inputs.shape[:2])
        if self.relative:
            roots = stream.square().mean(-1).clamp_min(torch.finfo(stream.dtype).tiny).rsqrt()
        if self.max_norm is not None:
            norms = inputs.norm(dim=-1)
            limit = self.max_norm * norms[:, self.skip_positions :].median(dim=1, keepdim=True).values
            roots = roots * (limit / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp_max(1.0)
        roots[:, : self.skip_positions] = 0.0
        return roots


class Moments:
    """Weighted sums over tokens, in float64, of one batch's products in at least float32.

    X are a projection's inputs (n), E = Y - W_S X - b the error of the inherited weights (out). The error is formed
    token by token, before summing: formed from sums it would be a small difference of large numbers. For the same
    reason the inputs of a projection with a bias are shifted by the mean of the first batch: their mean is taken off
    when solving, and may be large beside what varies (attention averages over tokens).

    Args:
        inputs: n.
        outputs: out.
        bias: Whether the projection has a bias.
        device: Where the sums are.

    Attributes:
        gram: ``n x n``, X X^T of shifted inputs.
        cross: ``out x n``, E X^T of shifted inputs.
        inputs: ``n``, sum of shifted X.
        errors: ``out``, sum of E.
        error_energy: ||E||^2.
        target_energy: ||Y||^2.
        count: Sum of the tokens' weights.
        shift: ``n``, what inputs are shifted by; zero without a bias.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        self._bias, self._empty = bias, True
        self.gram, self.cross = zeros(inputs, inputs), zeros(outputs, inputs)
        self.inputs, self.errors, self.shift = zeros(inputs), zeros(outputs), zeros(inputs)
        self.error_energy, self.target_energy, self.count = zeros(), zeros(), zeros()

    def add(self, x: Tensor, error: Tensor, target: Tensor, roots: Tensor | None) -> None:
        """Add a batch.

        Args:
            x: ``tokens x n`` inputs.
            error: ``tokens x out``, E.
            target: ``tokens x out``, Y.
            roots: ``tokens`` square roots of the weights; None = all one.
        """
        exact = torch.promote_types(x.dtype, torch.float32)
        x, error, target = x.to(exact), error.to(exact), target.to(exact)
        if self._bias:
            if self._empty:
                self.shift.copy_(x.mean(0))
            x = x - self.shift.to(exact)
        self._empty = False
        ones = x.new_ones(len(x)) if roots is None else roots.to(exact)
        if roots is not None:
            x, error, target = x * ones[:, None], error * ones[:, None], target * ones[:, None]
        self.gram += x.T @ x
        self.cross += error.T @ x
        with one_thread():
            self.inputs += ones @ x
            self.errors += ones @ error
        self.error_energy += _energy(error)
        self.target_energy += _energy(target)
        self.count += _energy(ones)

    def merge(self, other: Moments) -> None:
        """Add another's sums."""
        move = other.shift - self.shift
        mixed = torch.outer(other.inputs, move)
        self.gram += other.gram + mixed + mixed.T + other.count * torch.outer(move, move)
        self.cross += other.cross + torch.outer(other.errors, move)
        self.inputs += other.inputs + other.count * move
        for name in ("errors", "error_energy", "target_energy", "count"):
            getattr(self, name).add_(getattr(other, name))

    def update(self, ridge: Tensor, *, step: float = 1.0) -> tuple[Tensor, Tensor | None]:
        """The update U of the weights that minimises ||E - U X - c||^2 + ridge ||U||^2, and c.

        Args:
            ridge: lambda; infinity leaves U zero.
            step: Share of U and c to return.

        Returns:
            ``out x n``, and ``out`` or None without a bias (c is then zero; else it carries no ridge).
        """
        frozen = bool(ridge.isinf())
        if not self._bias:
            if frozen:
                return torch.zeros_like(self.cross), None
            return step * ridge_solve(self.gram.clone(), self.cross, ridge), None
        mean = self.inputs / self._tokens
        gram, cross = self.gram - torch.outer(self.inputs, mean), self.cross - torch.outer(self.errors, mean)
        update = torch.zeros_like(cross) if frozen else step * ridge_solve(gram, cross, ridge)
        return update, step * self.errors / self._tokens - update @ (mean + self.shift)

    def diagonal(self) -> Tensor:
        """Diagonal of the Gram matrix that an update is solved with; centred with a bias."""
        diagonal = self.gram.diagonal()
        return diagonal - self.inputs.square() / self._tokens if self._bias else diagonal

    def before(self) -> float:
        """||E||^2 / ||Y||^2."""
        return float(self.error_energy / self._energy)

    def after(self, update: Tensor, constant: Tensor | None) -> float:
        """||E - U X - c||^2 / ||Y||^2, from the sums alone."""
        left = self.error_energy - 2 * (update * self.cross).sum() + ((update @ self.gram) * update).sum()
        if constant is not None:
            shifted = constant + update @ self.shift
            left = left + self.count * shifted @ shifted - 2 * shifted @ (self.errors - update @ self.inputs)
        return float(left.clamp_min(0.0) / self._energy)

    @property
    def _tokens(self) -> Tensor:
        return self.count.clamp_min(torch.finfo(torch.float64).tiny)

    @property
    def _energy(self) -> Tensor:
        return self.target_energy.clamp_min(torch.finfo(torch.float64).tiny)


def _energy(values: Tensor) -> Tensor:
    squares = values.double().square()
    with one_thread():
        return squares.sum()
