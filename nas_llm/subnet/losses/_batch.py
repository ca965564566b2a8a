"""Sequences that run through the blocks together, and the losses that come of their last hidden states."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_llm.subnet.losses._token_loss import TokenLoss

# Logits of so many tokens exist at a time.
_CHUNK_TOKENS = 256


class Batch(ABC):
    """Sequences of one length.

    Attributes:
        ids: ``B x T`` token ids, on the device.
        losses: Losses that it has: tokens or questions.
        against_dense: Whether they are measured against the dense model.
    """

    ids: Tensor
    losses: int
    against_dense: bool = False

    @abstractmethod
    def predicting(self, hidden: Tensor) -> Tensor:
        """``b x t x D``: the hidden states of ``B x T x D`` that a token of interest is predicted from."""

    @abstractmethod
    def reference(self, head: TokenLoss, states: Tensor) -> Tensor:
        """What has to be known of the dense model's head inputs; empty where nothing is."""

    @abstractmethod
    def measure(self, head: TokenLoss, states: Tensor, reference: Tensor | None) -> Tensor:
        """The losses, float64 on the CPU, from ``N x E`` head inputs; the first axis counts ``B`` or questions."""

    @abstractmethod
    def gradient(self, head: nn.Linear, states: Tensor, dense: Tensor | None) -> Tensor:
        """Derivative of the summed losses by the head inputs.

        Args:
            head: The LM head.
            states: ``N x E``.
            dense: The dense model's head inputs, where the loss is measured against it.
        """


class WindowBatch(Batch):
    """Windows of text: a loss of every token but the first.

    Args:
        ids: ``B x T`` token ids.
        against_dense: Whether a loss is the KL divergence from the dense model, else the negative log-likelihood.
    """

    def __init__(self, ids: Tensor, *, against_dense: bool) -> None:
        self.ids = ids
        self.losses = ids.shape[0] * (ids.shape[1] - 1)
        self.against_dense = against_dense

    def predicting(self, hidden: Tensor) -> Tensor:
        """All positions but the last."""
        return hidden[:, :-1]

    def reference(self, head: TokenLoss, states: Tensor) -> Tensor:
        """The dense model's log-probabilities."""
        return head.log_probabilities(states) if self.against_dense else states.new_empty(0)

    def measure(self, head: TokenLoss, states: Tensor, reference: Tensor | None) -> Tensor:
        """``B x (T - 1)``."""
        if self.against_dense:
            assert reference is not None
            losses = head.kl(states, reference)
        else:
            losses = head.nll(states, self._targets)
        return losses.double().view(len(self.ids), -1).cpu()

    def gradient(self, head: nn.Linear, states: Tensor, dense: Tensor | None) -> Tensor:
        """Softmax less the target's one, or less the dense model's softmax, through the head."""
        result = torch.empty_like(states)
        for chunk in torch.arange(len(states), device=states.device).split(_CHUNK_TOKENS):
            if self.against_dense:
                assert dense is not None
                difference = functional.softmax(head(states[chunk]).float(), -1)
                difference -= functional.softmax(head(dense[chunk]).float(), -1)
            else:
                difference = likelihood_gradient(head(states[chunk]), self._targets[chunk])
            result[chunk] = difference.to(states.dtype) @ head.weight
        return result

    @property
    def _targets(self) -> Tensor:
        return self.ids[:, 1:].reshape(-1)


def likelihood_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Derivative of the summed negative log-likelihoods by ``N x V`` logits, float32."""
    difference = functional.softmax(logits.float(), -1)
    difference[torch.arange(len(targets), device=targets.device), targets] -= 1.0
    return difference
