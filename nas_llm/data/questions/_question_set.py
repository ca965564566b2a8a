"""A fixed set of encoded questions with its provenance."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nas_llm.data.questions._encode import Encoded
from nas_llm.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class QuestionSet:
    """Questions that something is computed on; free of any tensor library.

    Args:
        questions: The questions.
        name: What they are for.
        sources: Where they came from, one plain-data mapping a source.

    Raises:
        DataError: If there is none, or one cannot be scored.
    """

    questions: tuple[Encoded, ...]
    name: str = "questions"
    sources: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not self.questions:
            raise DataError(f"{self.name!r} holds no questions; give at least one")
        for number, question in enumerate(self.questions, start=1):
            if len(question.rows) < 2 or not question.scorable or not all(question.sizes):
                raise DataError(f"question {number} of {self.name!r} needs a prompt and two choices with text")
            if not 0 <= question.answer < len(question.rows):
                raise DataError(
                    f"question {number} of {self.name!r} has its answer {question.answer} not among choices"
                )

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def num_tokens(self) -> int:
        """Tokens of all choices, each with its prompt."""
        return sum(question.num_tokens for question in self.questions)

    @property
    def longest(self) -> int:
        """Tokens of the longest choice with its prompt."""
        return max(question.longest for question in self.questions)

    def take(self, places: Sequence[int]) -> QuestionSet:
        """Some of the questions, in this order."""
        return QuestionSet(
            questions=tuple(self.questions[place] for place in places), name=self.name, sources=self.sources
        )

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.blake2b(digest_size=16)
        for question in self.questions:
            numbers = [len(question.rows), question.answer, *question.starts, *question.sizes, *map(len, question.rows)]
            hasher.update(np.array(numbers, dtype="<i8").tobytes())
            for row in question.rows:
                hasher.update(row.astype("<i8", copy=False).tobytes())
        return hasher.hexdigest()

    def digest(self) -> str:
        """32 hex digits that identify tokens, cuts, lengths and answers, whatever their name and provenance."""
        return self._digest

    def describe(self) -> dict[str, Any]:
        """Plain-data form, for JSON: what was measured on, without the tokens themselves."""
        return {
            "name": self.name,
            "tokens": self.num_tokens,
            "questions": len(self),
            "digest": self.digest(),
            "sources": [dict(source) for source in self.sources],
        }
