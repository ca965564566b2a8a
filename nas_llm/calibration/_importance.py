"""The paper's importance score, equations 1-3."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nas_llm.calibration._gram import BlockGrams, Gram, damped
from nas_llm.models import DenseModel
from nas_llm.settings import CalibrationDefaults


def importance(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, *, damping: float = CalibrationDefaults.damping
) -> tuple[Tensor, Tensor]:
    """Score a block's units by Phi_ij = W_ij^2 / [(2 X X^T)^-1]_jj.

    A unit's score is the sum of its row scores in q/k/v (or gate/up, fc1) and its column scores in o (or down, fc2).
    The terms differ in scale by orders of magnitude, so each is divided by its mean over units first; the printed
    equations lack this, and say argmin where the prose, rightly, keeps the larger scores.

    Args:
        dense: The model.
        weights: State dict of the block.
        grams: Its Gram matrices.
        damping: Ridge on X X^T as a fraction of its mean diagonal.

    Returns:
        ``K`` scores of KV groups and ``P`` scores of FFN channels, float64.
    """
    attn, mlp = importance_terms(dense, weights, grams, damping=damping)
    return _relative(attn).sum(0).cpu(), _relative(mlp).sum(0).cpu()


def importance_terms(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, *, damping: float = CalibrationDefaults.damping
) -> tuple[Tensor, Tensor]:
    """What each projection adds to the score of a unit, in its own scale; arguments as for :func:`importance`.

    Returns:
        ``4 x K`` for q, k, v and o, and ``(number of first projections + 1) x P``, fc2 last; float64.
    """
    names, groups = dense.adapter.names, dense.architecture.num_kv_heads
    mlp_in = _column_weight(grams.mlp_in, damping)
    attn_terms = _attention_terms(dense, weights, grams, damping)
    mlp_terms = [_squares(weights, name) @ mlp_in for name in names.fc1]
    mlp_terms.append(_squares(weights, names.fc2).sum(0) * _column_weight(grams.fc2_in, damping))
    return torch.stack([term.view(groups, -1).sum(1) for term in attn_terms]), torch.stack(mlp_terms)


def importance_channels(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, damping: float
) -> tuple[Tensor, ...]:
    """What q, k, v and o each add to the score of a channel of a KV head, in its own scale; arguments as above.

    Returns:
        Four times ``K x d`` float64; those of q and o are summed over the query heads of the group.
    """
    a = dense.architecture
    terms = _attention_terms(dense, weights, grams, damping)
    return tuple(term.view(a.num_kv_heads, -1, a.head_dim).sum(1) for term in terms)


def _attention_terms(
    dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, damping: float
) -> list[Tensor]:
    """Scores of the rows of q, k and v and of the columns of o."""
    names, attn_in = dense.adapter.names, _column_weight(grams.attn_in, damping)
    terms = [_squares(weights, name) @ attn_in for name in (names.q, names.k, names.v)]
    return [*terms, _squares(weights, names.o).sum(0) * _column_weight(grams.o_in, damping)]


def _squares(weights: Mapping[str, Tensor], name: str) -> Tensor:
    return weights[f"{name}.weight"].double().square()


def _column_weight(gram: Gram, damping: float) -> Tensor:
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(2.0 * damped(gram.matrix, damping)))
    return 1.0 / inverse.diagonal()


def _relative(terms: Tensor) -> Tensor:
    return terms / terms.mean(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
