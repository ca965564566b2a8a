"""The dense model's own text is sampled in amounts that come to an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nas_llm.config import SelfSampleSection
from nas_llm.data import written_questions
from nas_llm.errors import DataError
from nas_llm.events import Event
from nas_llm.models import load_model
from nas_llm.session import self_texts


def test_more_text_than_a_day_writes_is_refused_before_the_first_word() -> None:
    dense, told = load_model("tiny-llama"), list[Event]()
    with pytest.raises(DataError, match=r"^12,800,000,000 tokens .* no more than 4,194,304 are sampled; take fewer"):
        self_texts(
            dense, 12_800_000_000, settings=SelfSampleSection(), device=torch.device("cpu"), on_event=told.append
        )
    assert not told


def test_questions_begin_with_those_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_LLM_CACHE", str(tmp_path))
    dense, told, written = load_model("tiny-llama"), list[Event](), list(written_questions())
    options: dict[str, Any] = {
        "settings": SelfSampleSection(),
        "device": torch.device("cpu"),
        "on_event": told.append,
    }
    assert self_texts(dense, 1_000, "questions", **options) == written
    assert not told
    held = sum(map(len, dense.tokenizer(written, add_special_tokens=False)["input_ids"]))
    more = self_texts(dense, held + 300, "questions", **options)
    assert more[: len(written)] == written
    assert told
    own = dense.tokenizer(more[len(written) :], add_special_tokens=False)["input_ids"]
    assert sum(map(len, own)) >= 300 - len(own)


def test_written_questions_are_whole_and_of_two_forms() -> None:
    texts = written_questions()
    assert len(texts) == len(set(texts)) == 620
    asked = [text for text in texts if text.startswith("Question: ")]
    assert all(text.count("\nAnswer: ") == 1 for text in asked)
    assert 400 < len(asked) < 520
    assert all("\n" not in text for text in texts if text not in asked)
