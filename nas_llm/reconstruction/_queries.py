"""Refit of the queries whose heads lost channels: one factor a channel, so that the attention scores lose least."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nas_llm.space import Architecture, BoolArray

# Of the mean diagonal of a head's score Gram: there are d coefficients a head, so one value fits all.
_DAMPING = 1e-2


@dataclass(frozen=True, eq=False)
class QueryRefit:
    """Factors of the queries' channels.

    Attributes:
        factors: ``H' x n`` of the query heads that are there, of their n kept channels in order: real parts of the
            rotary pairs, imaginary parts, factors of the other channels.
        pairs: Rotary pairs that each head keeps.
        residual_before: Squared change of the scores as the softmax weighs them, over that of losing all of q and k;
            without the refit.
        residual_after: With it.
    """

    factors: Tensor
    pairs: int
    residual_before: float
    residual_after: float

    def apply(self, queries: Tensor) -> Tensor:
        """Multiply rows of q: ``H' n x m`` or ``H' n``; a rotary pair by the complex number conj(factor).

        Such a factor goes through the rotation by positions, so that ``Re(conj(f) q conj(k))`` is
        ``Re f Re(q conj(k)) + Im f Im(q conj(k))`` at all distances.
        """
        rows = queries.to(torch.float64).view(*self.factors.shape, -1)
        factors, both = self.factors.to(rows.device)[..., None], 2 * self.pairs
        real, imaginary = factors[:, : self.pairs], factors[:, self.pairs : both]
        q_real, q_imaginary = rows[:, : self.pairs], rows[:, self.pairs : both]
        parts = [
            real * q_real + imaginary * q_imaginary,
            real * q_imaginary - imaginary * q_real,
            factors[:, both:] * rows[:, both:],
        ]
        return torch.cat(parts, dim=1).view(queries.shape).to(queries.dtype)


def refit_queries(architecture: Architecture, score_gram: Tensor, kept: BoolArray) -> QueryRefit | None:
    """Fit the factors of the channels of q that are left.

    For a query head with score Gram G, features S kept and coefficients t of the dense scores (1, and 0 for imaginary
    parts), they are ``(G_SS + lambda I)^-1 (G_S: t + lambda t_S)``: lambda pulls towards the inherited queries.

    Args:
        architecture: The dense model's.
        score_gram: ``H x d x d``, see :class:`nas_llm.calibration.ScoreGrams`.
        kept: ``K x d`` channels of q and k; KV heads that keep none are not there.

    Returns:
        The factors; None if every head that is there is whole.
    """
    a, rotary = architecture, architecture.rotary_channels
    present = np.flatnonzero(kept.any(axis=1))
    if kept[present].all():
        return None
    grams = score_gram.double().view(a.num_kv_heads, a.heads_per_group, a.head_dim, a.head_dim)
    wanted = torch.ones(a.head_dim, dtype=torch.float64, device=grams.device)
    wanted[rotary // 2 : rotary] = 0.0
    factors, lost = [], np.zeros(3)
    for group in present:
        gram, places = grams[group], torch.from_numpy(np.flatnonzero(kept[group])).to(grams.device)
        ridge = _DAMPING * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        damped = gram[:, places][:, :, places] + ridge[:, None, None] * torch.eye(len(places)).to(gram)
        right = gram[:, places] @ wanted + ridge[:, None] * wanted[places]
        found = torch.cholesky_solve(right[..., None], torch.linalg.cholesky(damped))[..., 0]
        before, after = (wanted.expand(a.heads_per_group, -1).clone() for _ in range(2))
        before[:, places] = 0.0
        after[:, places] -= found
        lost += [_weighed(gram, change) for change in (before, after, wanted.expand_as(before))]
        factors.append(found)
    pairs = int(kept[present[0], : rotary // 2].sum())
    whole = max(lost[2], 1e-300)
    return QueryRefit(torch.cat(factors), pairs, float(lost[0] / whole), float(lost[1] / whole))


def _weighed(gram: Tensor, change: Tensor) -> float:
    return float(torch.einsum("hi,hij,hj->", change, gram, change))
