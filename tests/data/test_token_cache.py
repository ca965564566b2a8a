"""Long texts are tokenised once: the same ids from the cache, for this text and tokenizer alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast

from nas_llm.config import DataSection
from nas_llm.data import _token_cache as token_cache
from nas_llm.data import build_splits, token_windows

Prose = Callable[..., str]


class Counting(PreTrainedTokenizerFast):
    """The same tokenizer; counts the texts that it gets."""

    texts = 0

    def __call__(self, text: list[str], **arguments: object) -> object:  # type: ignore[override]
        Counting.texts += len(text)
        return super().__call__(text, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def counting(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> PreTrainedTokenizerFast:
    monkeypatch.setenv("NAS_LLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(token_cache, "_LONG_CHARACTERS", 1000)
    monkeypatch.setattr(Counting, "texts", 0)
    return Counting(tokenizer_object=copy.deepcopy(tokenizer.backend_tokenizer), eos_token="<|im_end|>")


def test_a_long_text_is_tokenised_once(counting: PreTrainedTokenizerFast, prose: Prose) -> None:
    text = prose(2000)
    first = token_windows(counting, [text], window=8)
    again = token_windows(counting, [text], window=8, max_tokens=16)
    assert Counting.texts == 1
    assert again.dtype == np.int64
    np.testing.assert_array_equal(first, again)
    token_windows(counting, [text + " and more"], window=8)
    assert Counting.texts == 2
    assert token_windows(counting, [text], window=8, max_tokens=0).shape == (0, 8)
    np.testing.assert_array_equal(token_windows(counting, [text], window=8), first)


def test_several_documents_are_kept_as_far_as_they_were_read(counting: PreTrainedTokenizerFast, prose: Prose) -> None:
    texts = [prose(300, start=start) for start in (0, 300, 600)]
    everything = token_windows(counting, texts, window=1)
    some = token_windows(counting, texts, window=1, max_tokens=10)
    assert len(some) < len(everything)
    np.testing.assert_array_equal(token_windows(counting, texts, window=1), everything)
    np.testing.assert_array_equal(token_windows(counting, texts, window=1, max_tokens=10), some)
    assert Counting.texts == 6


def test_another_tokenizer_has_ids_of_its_own(counting: PreTrainedTokenizerFast, prose: Prose) -> None:
    text = prose(2000).upper()
    token_windows(counting, [text], window=8)
    other = Counting(tokenizer_object=copy.deepcopy(counting.backend_tokenizer), eos_token="<|im_end|>")
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    found = token_windows(other, [text], window=8)
    assert Counting.texts == 2
    np.testing.assert_array_equal(found, token_windows(counting, [text.lower()], window=8))


def test_a_damaged_cache_or_none_changes_nothing(
    counting: PreTrainedTokenizerFast, prose: Prose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = prose(2000)
    wanted = token_windows(counting, [text], window=8)
    [kept] = (tmp_path / "cache" / "tokens").iterdir()
    for damage in (b"", b"no array", kept.read_bytes()[:-100]):
        kept.write_bytes(damage)
        np.testing.assert_array_equal(token_windows(counting, [text], window=8), wanted)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, so no folder", encoding="utf-8")
    monkeypatch.setenv("NAS_LLM_CACHE", str(blocked))
    np.testing.assert_array_equal(token_windows(counting, [text], window=8), wanted)


def test_splits_are_the_same_from_the_cache(counting: PreTrainedTokenizerFast, prose: Prose, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(prose(4000), encoding="utf-8")
    section = {"tokens": 64, "sources": [{"source": "a.txt"}]}
    data = DataSection.model_validate(
        {"off_text": {"tokens": 0}, "window": 8, "calibration": section, "fitness": section, "held_out": section}
    )

    def digests() -> list[str]:
        splits = build_splits(data, tokenizer=counting, self_texts=lambda tokens: [], base_dir=tmp_path)
        return [splits.calibration.digest(), splits.fitness.digest(), splits.held_out.digest()]

    first = digests()
    read = Counting.texts
    assert digests() == first
    assert Counting.texts == read
