"""Questions in batches: every choice is a sequence of its own, padded behind its end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_llm.data.questions import Encoded
from nas_llm.subnet.losses._batch import Batch, likelihood_gradient
from nas_llm.subnet.losses._margin import choice_losses, choice_slopes
from nas_llm.subnet.losses._token_loss import TokenLoss

# Sequences are padded to a multiple of this: their products are the same whoever stands beside them.
_MULTIPLE = 16
_CHUNK_TOKENS = 256


def question_batches(
    questions: Sequence[Encoded], *, tokens: int, device: torch.device, positions: int
) -> tuple[QuestionBatch, ...]:
    """Batches of whole questions of about one length, the longest first.

    Args:
        questions: The questions.
        tokens: Most tokens of a batch, padding included, but at least one question's.
        device: Where they are needed.
        positions: No sequence is padded beyond this.
    """
    batches: list[QuestionBatch] = []
    widths = [padded_length(question, positions) for question in questions]
    for width in sorted(set(widths), reverse=True):
        batch: list[Encoded] = []
        for question, own in zip(questions, widths, strict=True):
            if own != width:
                continue
            if batch and width * (sum(len(one.rows) for one in batch) + len(question.rows)) > tokens:
                batches.append(QuestionBatch(batch, width, device))
                batch = []
            batch.append(question)
        batches.append(QuestionBatch(batch, width, device))
    return tuple(batches)


def padded_length(question: Encoded, positions: int) -> int:
    """Tokens of each of a question's sequences with padding."""
    return max(question.longest, min(-(-question.longest // _MULTIPLE) * _MULTIPLE, positions))


class QuestionBatch(Batch):
    """Questions, with a loss each: that of the right choice against the wrong ones.

    Attention looks back only, so what pads a sequence behind its end changes nothing before it.

    Args:
        questions: The questions.
        width: Tokens of a sequence with padding.
        device: Where they are needed.
    """

    def __init__(self, questions: Sequence[Encoded], width: int, device: torch.device) -> None:
        rows = [torch.from_numpy(row) for question in questions for row in question.rows]
        starts = [start for question in questions for start in question.starts]
        self.ids = torch.stack([functional.pad(row, (0, width - len(row))) for row in rows]).to(device)
        self.losses = len(questions)
        places = [torch.arange(start, len(row)) for start, row in zip(starts, rows, strict=True)]
        self._lengths = torch.tensor([len(place) for place in places])
        self._rows = torch.arange(len(rows)).repeat_interleave(self._lengths).to(device)
        # A token is predicted from the position before it.
        self._columns = torch.cat(places).to(device) - 1
        self._targets = self.ids[self._rows, self._columns + 1]
        self._sizes = torch.tensor([size for question in questions for size in question.sizes], dtype=torch.float64)
        self._counts = torch.tensor([len(question.rows) for question in questions])
        self._right = torch.tensor(
            [place == question.answer for question in questions for place in range(len(question.rows))]
        )

    def predicting(self, hidden: Tensor) -> Tensor:
        """The positions before each token of each choice, in one row."""
        return hidden[self._rows, self._columns][None]

    def reference(self, head: TokenLoss, states: Tensor) -> Tensor:
        """Nothing."""
        return states.new_empty(0)

    def measure(self, head: TokenLoss, states: Tensor, reference: Tensor | None) -> Tensor:
        """One loss a question."""
        return choice_losses(self.scores(head.nll(states, self._targets)), self._right, self._counts)

    def scores(self, losses: Tensor) -> Tensor:
        """Log-likelihood per character of each choice, float64 on the CPU, from its tokens' losses."""
        parts = losses.double().cpu().split(self._lengths.tolist())
        return -torch.stack([part.sum() for part in parts]) / self._sizes

    def gradient(self, head: nn.Linear, states: Tensor, dense: Tensor | None) -> Tensor:
        """The likelihoods' derivatives, each choice's with the derivative of its question's loss by it."""
        chunks = list(torch.arange(len(states), device=states.device).split(_CHUNK_TOKENS))
        losses = torch.cat(
            [
                functional.cross_entropy(head(states[chunk]).float(), self._targets[chunk], reduction="none")
                for chunk in chunks
            ]
        )
        slopes = -choice_slopes(self.scores(losses), self._right, self._counts) / self._sizes
        factors = slopes.repeat_interleave(self._lengths).float().to(states.device)
        result = torch.empty_like(states)
        for chunk in chunks:
            difference = likelihood_gradient(head(states[chunk]), self._targets[chunk]) * factors[chunk, None]
            result[chunk] = difference.to(states.dtype) @ head.weight
        return result
