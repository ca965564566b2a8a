from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from nas_llm.data import end_of_text_id, packaged_sample, perplexity_windows, read_texts, token_windows
from nas_llm.errors import DataError

Prose = Callable[..., str]


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def test_one_document_is_tokenised_as_a_whole(tokenizer: PreTrainedTokenizerFast, prose: Prose) -> None:
    text = prose(100)
    ids = _ids(tokenizer, text)
    windows = token_windows(tokenizer, [text], window=7)
    assert windows.dtype == np.int64
    assert windows.shape == (len(ids) // 7, 7)
    assert windows.ravel().tolist() == ids[: windows.size]


def test_documents_are_joined_by_end_of_text_not_by_the_end_of_a_turn(
    tokenizer: PreTrainedTokenizerFast, prose: Prose
) -> None:
    assert tokenizer.eos_token == "<|im_end|>"
    assert end_of_text_id(tokenizer) == tokenizer.get_vocab()["<|endoftext|>"]
    texts = [prose(20), prose(10, start=50), prose(30, start=70)]
    expected = [*_ids(tokenizer, texts[0]), 0, *_ids(tokenizer, texts[1]), 0, *_ids(tokenizer, texts[2])]
    assert token_windows(tokenizer, texts, window=1).ravel().tolist() == expected


@pytest.mark.parametrize(("special", "eos", "joined"), [(["</s>"], "</s>", True), ([], None, False)])
def test_other_tokenizers_join_by_eos_or_by_nothing(
    make_tokenizer: Callable[..., PreTrainedTokenizerFast],
    prose: Prose,
    special: list[str],
    eos: str | None,
    joined: bool,
) -> None:
    tokenizer = make_tokenizer([prose(400)], special=special, eos=eos)
    separator = [tokenizer.get_vocab()["</s>"]] if joined else []
    expected = [*_ids(tokenizer, "red fish"), *separator, *_ids(tokenizer, "green hills")]
    assert token_windows(tokenizer, ["red fish", "green hills"], window=1).ravel().tolist() == expected


def test_reading_stops_after_max_tokens_and_cuts_no_document(tokenizer: PreTrainedTokenizerFast, prose: Prose) -> None:
    texts = [prose(20, start=10 * i) for i in range(600)]
    everything = token_windows(tokenizer, texts, window=1)
    lengths = [len(_ids(tokenizer, text)) for text in texts[:3]]
    limited = token_windows(tokenizer, texts, window=1, max_tokens=lengths[0] + lengths[1])
    assert len(limited) == lengths[0] + lengths[1] + 1
    np.testing.assert_array_equal(limited, everything[: len(limited)])
    np.testing.assert_array_equal(token_windows(tokenizer, texts, window=1, max_tokens=10**9), everything)


def test_long_texts_bring_no_warning(
    make_tokenizer: Callable[..., PreTrainedTokenizerFast], prose: Prose, caplog: pytest.LogCaptureFixture
) -> None:
    # A tokenizer warns once in its life, so this one must be new.
    tokenizer = make_tokenizer([prose(400)], special=["</s>"], eos="</s>")
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        windows = token_windows(tokenizer, [prose(500)], window=8)
        assert windows.size > tokenizer.model_max_length
        assert not caplog.records
        tokenizer(prose(500))
        assert "longer than" in caplog.text, "the tokenizer must be one that would have warned"
    finally:
        logger.removeHandler(caplog.handler)


def test_too_little_text_gives_no_window(tokenizer: PreTrainedTokenizerFast) -> None:
    assert token_windows(tokenizer, ["a"], window=5).shape == (0, 5)
    assert token_windows(tokenizer, [], window=5).shape == (0, 5)
    with pytest.raises(DataError, match="window must be positive, got 0"):
        token_windows(tokenizer, ["a"], window=0)


def test_perplexity_windows_are_the_first_of_the_file(
    tokenizer: PreTrainedTokenizerFast, prose: Prose, tmp_path: Path
) -> None:
    path = tmp_path / "report.raw"
    path.write_text(prose(200), encoding="utf-8")
    every = perplexity_windows(path, tokenizer=tokenizer, window=16)
    np.testing.assert_array_equal(every.tokens, token_windows(tokenizer, [prose(200)], window=16))
    first = perplexity_windows(str(path), tokenizer=tokenizer, window=16, max_windows=3, name="wikitext2")
    np.testing.assert_array_equal(first.tokens, every.tokens[:3])
    assert (first.name, first.sources[0]["source"], first.sources[0]["windows"]) == ("wikitext2", str(path), 3)
    from_texts = perplexity_windows([prose(200)], tokenizer=tokenizer, window=16)
    assert from_texts.digest() == every.digest()
    assert from_texts.sources[0]["content"] == first.sources[0]["content"]


def test_perplexity_windows_messages(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="texts is shorter than one window of 99 tokens; give a longer text"):
        perplexity_windows(["short"], tokenizer=tokenizer, window=99)
    with pytest.raises(DataError, match="max_windows must be positive, got 0"):
        perplexity_windows(["short"], tokenizer=tokenizer, window=2, max_windows=0)


@pytest.mark.parametrize(("name", "most"), [("smollm2-135m", 500_000), ("tiny-llama", 200_000)])
def test_packaged_samples_are_readable_and_small(name: str, most: int) -> None:
    path = packaged_sample(name)
    assert path is not None
    assert path.stat().st_size < most
    texts = read_texts(path)
    assert len(texts) > 50
    assert not any("<|" in text for text in texts), "special tokens are not part of the text"


def test_there_is_no_sample_of_other_models() -> None:
    assert packaged_sample("llama-7b") is None
    assert packaged_sample("../samples/tiny-llama") is None
    assert packaged_sample("*") is None
