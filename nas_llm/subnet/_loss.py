"""Next-token loss from hidden states, in chunks: the full logits never exist."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# A chunk's logits (chunk x vocabulary floats) should stay near the caches.
_CHUNK_TOKENS = 256


def nll_sum(logits_of: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor) -> float:
    """Summed negative log-likelihood of the targets.

    Args:
        logits_of: Maps ``n x E`` hidden states to ``n x V`` logits.
        hidden: ``N x E``.
        targets: ``N`` token ids.
    """
    total = torch.zeros((), dtype=torch.float64)
    for states, wanted in zip(hidden.split(_CHUNK_TOKENS), targets.split(_CHUNK_TOKENS), strict=True):
        loss = functional.cross_entropy(logits_of(states).float(), wanted, reduction="sum")
        total += loss.double().cpu()
    return float(total)


def kl_sum(logits_of: Callable[[Tensor], Tensor], hidden: Tensor, reference: list[Tensor]) -> float:
    """Summed KL divergence from a reference distribution, sum p (log p - log q).

    Args:
        logits_of: Maps ``n x E`` hidden states to ``n x V`` logits.
        hidden: ``N x E``.
        reference: Log-probabilities chunk by chunk, as :func:`log_probabilities` returns them.
    """
    total = torch.zeros((), dtype=torch.float64)
    for states, expected in zip(hidden.split(_CHUNK_TOKENS), reference, strict=True):
        log_q = functional.log_softmax(logits_of(states).float(), dim=-1)
        divergence = functional.kl_div(log_q, expected.to(log_q.device).float(), reduction="sum", log_target=True)
        total += divergence.double().cpu()
    return float(total)


def log_probabilities(logits_of: Callable[[Tensor], Tensor], hidden: Tensor) -> list[Tensor]:
    """Log-probabilities of all positions, float32, chunk by chunk; tokens x vocabulary x 4 bytes in all."""
    return [functional.log_softmax(logits_of(states).float(), dim=-1) for states in hidden.split(_CHUNK_TOKENS)]
