"""The size of the ridge: relative to what, and chosen how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nas_llm.reconstruction._moments import Moments

# Share of the diagonal that the trimmed mean drops at either end.
_TRIM = 0.1


def _trimmed(diagonal: Tensor) -> Tensor:
    ordered = diagonal.sort().values
    drop = int(_TRIM * len(ordered))
    return ordered[drop : len(ordered) - drop].mean()


DAMPING_SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": torch.mean,
    "median": torch.median,
    "trimmed": _trimmed,
}
"""What ``damping`` is a fraction of, by name: a statistic of the diagonal of X X^T. A few huge channels lift the mean
but not the others."""


def ridge(moments: Moments, damping: float, scale: str) -> Tensor:
    """lambda = damping x scale of the diagonal.

    Args:
        moments: What is solved.
        damping: The fraction.
        scale: Key of :data:`DAMPING_SCALES`.
    """
    return damping * DAMPING_SCALES[scale](moments.diagonal())


def choose_damping(
    train: Moments, held_out: Moments, dampings: Sequence[float], *, scale: str, step: float = 1.0
) -> tuple[float, float]:
    """The damping whose update, solved on one part of the tokens, leaves the least error on the other.

    Costs one Cholesky solve and one product of the Gram's size a damping, and no forward pass.

    Args:
        train: Moments that the updates are solved on.
        held_out: Moments that they are judged by.
        dampings: Candidates.
        scale: Key of :data:`DAMPING_SCALES`.
        step: Share of each update that is made.

    Returns:
        The damping, and the residual that it leaves on the held-out part.
    """
    residuals = [held_out.after(*train.update(ridge(train, damping, scale), step=step)) for damping in dampings]
    best = min(range(len(dampings)), key=residuals.__getitem__)
    return dampings[best], residuals[best]
