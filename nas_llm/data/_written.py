"""Questions that were written for this package: the same text for every model, and none has to be sampled."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

_SENTENCE, _QUESTION = "{} {}", "Question: {}\nAnswer: {}"
_QUESTIONS = Path(__file__).parent / "written" / "questions.jsonl"


@cache
def written_questions() -> tuple[str, ...]:
    """Short questions of everyday life and school science with their right answers, in an order that mixes both.

    An answer stands on its own line, or completes the sentence that the question begins.
    """
    rows = map(json.loads, _QUESTIONS.read_text(encoding="utf-8").splitlines())
    return tuple((_SENTENCE if row["completes"] else _QUESTION).format(row["question"], row["answer"]) for row in rows)
