"""The dense model's own text is sampled in amounts that come to an end."""

from __future__ import annotations

import pytest
import torch

from nas_llm.config import SelfSampleSection
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
