"""The loss of a question: the right answer against the wrong ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.2
"""Nats per character that scale the scores of choices."""


def choice_losses(scores: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    r"""Cross-entropy of the right choice among all choices of each question.

    A choice's score is its log-likelihood after the prompt over its length in characters, what ``acc_norm`` of lm-eval
    decides by; with scores :math:`s_c` and the temperature :math:`\tau` the loss is
    :math:`-s_r / \tau + \log \sum_c \exp(s_c / \tau)`: for two choices the softplus of the margin between them, for
    more a smooth maximum over the wrong ones. It is near zero where the right choice wins by far more than
    :math:`\tau` and near the lost margin over :math:`\tau` where it loses, so that a subnet is not paid for making
    safe answers safer, and has a slope where an accuracy has none; after the margin loss of GISP. The temperature is
    fixed, near the median distance of 0.165 nats per character between the right choice and the best wrong one (dense
    SmolLM2-135M, training questions of ARC-easy, OpenBookQA and PIQA): at 1 every question would count alike, won or
    not, and far below it the few questions that are lost by most would be all that counts.

    Args:
        scores: ``N`` scores, the choices of a question behind each other.
        right: ``N`` booleans, one true for each question.
        counts: ``Q`` numbers of choices.

    Returns:
        ``Q`` losses.
    """
    return torch.stack(
        [
            torch.logsumexp(own / TEMPERATURE, 0) - own[wanted][0] / TEMPERATURE
            for own, wanted in zip(scores.split(counts.tolist()), right.split(counts.tolist()), strict=True)
        ]
    )


def choice_slopes(scores: Tensor, right: Tensor, counts: Tensor) -> Tensor:
    """Derivatives of the summed :func:`choice_losses` by the scores: ``N``."""
    shares = [functional.softmax(own / TEMPERATURE, 0) for own in scores.split(counts.tolist())]
    return (torch.cat(shares) - right.to(scores.dtype)) / TEMPERATURE
