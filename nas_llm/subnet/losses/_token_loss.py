"""Next-token loss from hidden states, in chunks: the full logits never exist."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_llm.models import one_thread

# A chunk's logits (chunk x vocabulary floats) should stay near the caches.
_CHUNK_TOKENS = 256


class TokenLoss:
    """Per-token losses of the LM head; logits and log-probabilities live in buffers that are used again.

    Args:
        head: The LM head, ``V x E``.
    """

    def __init__(self, head: nn.Linear) -> None:
        self._weight = head.weight.T
        self._bias = head.bias
        vocabulary, dtype, device = head.weight.shape[0], head.weight.dtype, head.weight.device
        self._logits = torch.empty(_CHUNK_TOKENS, vocabulary, dtype=dtype, device=device)
        self._float, self._result = torch.empty(2, _CHUNK_TOKENS, vocabulary, dtype=torch.float32, device=device)

    def nll(self, states: Tensor, targets: Tensor) -> Tensor:
        """Negative log-likelihood of each target.

        Args:
            states: ``N x E`` inputs of the head.
            targets: ``N`` token ids.

        Returns:
            ``N`` float32.
        """
        losses = [
            -log_probabilities.gather(1, wanted[:, None])[:, 0]
            for log_probabilities, wanted in zip(self._chunks(states), targets.split(_CHUNK_TOKENS), strict=True)
        ]
        return torch.cat(losses)

    def kl(self, states: Tensor, reference: Tensor) -> Tensor:
        """KL divergence from a reference distribution at each position, sum p (log p - log q).

        Args:
            states: ``N x E`` inputs of the head.
            reference: ``N x V`` log p, as :meth:`log_probabilities` returns them.

        Returns:
            ``N`` float32.
        """
        losses = []
        for log_q, log_p in zip(self._chunks(states), reference.split(_CHUNK_TOKENS), strict=True):
            with one_thread():
                losses.append(functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1))
        return torch.cat(losses)

    def log_probabilities(self, states: Tensor) -> Tensor:
        """``N x V`` float32 log-probabilities: tokens x vocabulary x 4 bytes."""
        return torch.cat([chunk.clone() for chunk in self._chunks(states)])

    def _chunks(self, states: Tensor) -> Iterator[Tensor]:
        """Log-probabilities of the next chunk, in a buffer that the one after it overwrites."""
        for chunk in states.split(_CHUNK_TOKENS):
            logits = self._logits[: len(chunk)]
            if self._bias is None:
                torch.mm(chunk, self._weight, out=logits)
            else:
                torch.addmm(self._bias, chunk, self._weight, out=logits)
            if logits.dtype != torch.float32:
                logits = self._float[: len(chunk)].copy_(logits)
            yield torch.log_softmax(logits, -1, out=self._result[: len(chunk)])
