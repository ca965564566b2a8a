"""The texts of a quality objective: cut into batches, and what their losses come to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nas_llm.data import QuestionSet, WindowSet
from nas_llm.errors import ConfigError, DataError
from nas_llm.subnet.losses._batch import Batch, WindowBatch
from nas_llm.subnet.losses._metric import Quality
from nas_llm.subnet.losses._questions import padded_length, question_batches


class ScoredText:
    """What a quality objective is measured on.

    Args:
        quality: The objective.
        windows: Text of the terms that are losses of tokens; not looked at where there is none.
        questions: Questions of the terms that are losses of questions; not looked at where there is none.
        positions: Most tokens of a sequence.

    Attributes:
        against_dense: Whether the dense model has to be known.
        sequences: Windows and choices.
        num_tokens: Their tokens, padding not counted.
        longest: Tokens of the longest of them.
        least_tokens: Tokens, padding included, that have to run at once: one window, or all choices of one question.

    Raises:
        ConfigError: If questions are needed and there are none.
        DataError: If a window or question is longer than ``positions``.
    """

    def __init__(self, quality: Quality, windows: WindowSet, questions: QuestionSet | None, *, positions: int) -> None:
        if quality.asks and questions is None:
            raise ConfigError(f"{quality.name} is measured on questions, and there are none; give some")
        self._quality = quality
        self._windows = windows if quality.reads else None
        self._questions = questions if quality.asks else None
        self._positions = positions
        self.against_dense = any(term.metric.against_dense for term in quality.terms)
        self.sequences = self.num_tokens = self.longest = self.least_tokens = 0
        if self._windows is not None:
            count, length = self._windows.tokens.shape
            if length > positions:
                raise DataError(
                    f"windows of {length} tokens are longer than the model's {positions} positions; lower data.window"
                )
            self._add(sequences=count, tokens=self._windows.num_tokens, longest=length, least=length)
        if self._questions is not None:
            if self._questions.longest > positions:
                raise DataError(
                    f"a question of {self._questions.longest} tokens is longer than the model's {positions} positions; "
                    f"lower data.window"
                )
            asked = self._questions.questions
            self._add(
                sequences=sum(len(question.rows) for question in asked),
                tokens=self._questions.num_tokens,
                longest=max(padded_length(question, positions) for question in asked),
                least=max(padded_length(question, positions) * len(question.rows) for question in asked),
            )
        self._owners: list[int] = []

    @property
    def digest(self) -> str:
        """What identifies the texts."""
        return "+".join(text.digest() for text in (self._windows, self._questions) if text is not None)

    def batches(self, *, tokens: int, device: torch.device, parts: int = 1) -> list[Batch]:
        """The batches of all terms, the longest sequences first.

        Args:
            tokens: Most tokens of a batch, but at least those of a window or question.
            device: Where they are needed.
            parts: Least number of batches that windows are cut into, as far as there are windows.
        """
        found: list[tuple[int, Batch]] = []
        for place, term in enumerate(self._quality.terms):
            own: Sequence[Batch]
            if term.metric.asks:
                assert self._questions is not None
                own = question_batches(
                    self._questions.questions, tokens=tokens, device=device, positions=self._positions
                )
            else:
                assert self._windows is not None
                count, length = self._windows.tokens.shape
                most = max(1, min(tokens // length, count // parts))
                ids = torch.from_numpy(self._windows.tokens.copy()).to(device)
                own = [WindowBatch(part, against_dense=term.metric.against_dense) for part in ids.split(most)]
            found += [(place, batch) for batch in own]
        found.sort(key=lambda one: -one[1].ids.shape[1])
        self._owners = [place for place, _ in found]
        return [batch for _, batch in found]

    def value(self, results: Sequence[Tensor]) -> float:
        """The value of what :meth:`Batch.measure` made of each batch of :meth:`batches`."""
        means = []
        for place in range(len(self._quality.terms)):
            own = [result for owner, result in zip(self._owners, results, strict=True) if owner == place]
            # Window by window, so that it does not matter how windows were grouped.
            losses = torch.cat([result.reshape(len(result), -1) for result in own])
            means.append(float(losses.sum(1).sum()) / losses.numel())
        return self._quality.value(means)

    def _add(self, *, sequences: int, tokens: int, longest: int, least: int) -> None:
        self.sequences += sequences
        self.num_tokens += tokens
        self.longest = max(self.longest, longest)
        self.least_tokens = max(self.least_tokens, least)
