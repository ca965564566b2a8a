"""The questions of a problem."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.config import DataSection
from nas_llm.data._allocation import share
from nas_llm.data._rows import Question
from nas_llm.data._sources import read_questions
from nas_llm.data.questions._encode import Encoded, encode
from nas_llm.data.questions._question_set import QuestionSet
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def build_questions(data: DataSection, *, tokenizer: PreTrainedTokenizerBase, base_dir: Path) -> QuestionSet | None:
    """Choose the questions of ``[data.questions]``; None where there is no such section.

    Questions and tokens are shared between the sources by weight. A source gives evenly spaced questions; one that is
    longer than a window gives way to the next one, and there are fewer where they would have too many tokens. Nothing
    is random.

    Args:
        data: The ``[data]`` section.
        tokenizer: Tokenizer of the dense model.
        base_dir: Folder that relative paths start from.

    Raises:
        DataError: If a source cannot be read, has too few questions, or not one within its tokens.
    """
    section = data.questions
    if section is None:
        return None
    weights = [source.weight for source in section.sources]
    chosen: list[Encoded] = []
    sources: list[dict[str, Any]] = []
    counts, budgets = share(section.count, weights), share(section.tokens, weights)
    for source, count, budget in zip(section.sources, counts, budgets, strict=True):
        questions = read_questions(source, base_dir=base_dir)
        if len(questions) < count:
            raise DataError(
                f"source {source.source!r} has {len(questions)} questions with choices, needed are {count}; give more, "
                f"or lower data.questions.count"
            )
        taken = _Chooser(questions, tokenizer, data.window).within(count, budget) if count else []
        if count and not taken:
            raise DataError(
                f"source {source.source!r} has no question within {budget} tokens, its share of data.questions.tokens, "
                f"and data.window ({data.window}); raise them"
            )
        chosen += taken
        sources.append(source.model_dump() | {"questions": len(taken), "questions_available": len(questions)})
    return QuestionSet(questions=tuple(chosen), sources=tuple(sources))


class _Chooser:
    """Evenly spaced questions of one source, each encoded once."""

    def __init__(self, questions: list[Question], tokenizer: PreTrainedTokenizerBase, window: int) -> None:
        self._questions = questions
        self._tokenizer = tokenizer
        self._window = window
        self._encoded: dict[int, Encoded] = {}

    def within(self, count: int, budget: int) -> list[Encoded]:
        """At most ``count`` questions of at most ``budget`` tokens in all."""
        while count:
            taken = self._spaced(count)
            total = sum(question.num_tokens for question in taken)
            if total <= budget:
                return taken
            count = min(count - 1, count * budget // total)
        return []

    def _spaced(self, count: int) -> list[Encoded]:
        """From each of ``count`` stretches of the source the first question that fits."""
        bounds = [len(self._questions) * part // count for part in range(count + 1)]
        found = (
            next((one for place in range(low, high) if self._fits(one := self._encode(place))), None)
            for low, high in pairwise(bounds)
        )
        return [question for question in found if question is not None]

    def _encode(self, place: int) -> Encoded:
        if place not in self._encoded:
            self._encoded[place] = encode(self._questions[place], self._tokenizer)
        return self._encoded[place]

    def _fits(self, question: Encoded) -> bool:
        return question.scorable and question.longest <= self._window
