"""Text of several kinds that the model writes: openings, temperature, what is dropped, what is kept."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from nas_llm.config import SelfSampleSection
from nas_llm.data import cached_self_texts, packaged_sample
from nas_llm.data.self_text._prompts import openings
from nas_llm.data.self_text._repetition import new_texts
from nas_llm.data.self_text._sample import COOLING_TOKENS, _steps, sample_batches
from nas_llm.settings import AUTO_KINDS, OFF_KIND

KINDS = (*AUTO_KINDS, OFF_KIND)


@pytest.mark.parametrize("kind", KINDS)
def test_openings_differ_for_a_long_time(kind: str, tokenizer: PreTrainedTokenizerFast) -> None:
    made = openings(tokenizer, kind, 0, 120)
    assert len(set(made)) >= 100
    assert openings(tokenizer, kind, 40, 30) == made[40:70]
    assert not any("{" in text and kind not in ("code",) for text in made)
    assert all(text.strip() for text in made)


def test_requests_are_in_the_models_own_chat_template(tokenizer: PreTrainedTokenizerFast) -> None:
    plain = openings(tokenizer, "chat", 0, 1)[0]
    assert plain.startswith("Instruction: ")
    assert plain.endswith("Response:")
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}[model]{% endif %}"
    )
    try:
        asked = openings(tokenizer, "chat", 0, 1)[0]
    finally:
        tokenizer.chat_template = None
    assert asked.startswith("[user] ")
    assert asked.endswith("\n[model]")


def test_documents_begin_with_their_openings(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Openings of different lengths, the model going on at once behind the shorter ones."""
    wanted = ["a b", "c", "a b c a b c", ""]
    given = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in wanted]
    rows: list[list[int]] = [[] for _ in given]
    steps = _steps(model, start=0, stops=[1], rows=4, temperature=1.0, limit=24, seed=5, openings=given)
    for alive, ids in steps:
        for row, token in zip(alive, ids, strict=True):
            rows[row].append(token)
    for row, tokens in zip(rows, given, strict=True):
        assert row[: len(tokens)] == tokens
    assert len({tuple(row) for row in rows}) == 4
    texts = [text for text, _ in next(sample_batches(model, tokenizer, batch_size=4, openings=lambda batch: wanted))]
    assert all(text.startswith(opening) for text, opening in zip(texts, wanted, strict=False))


def test_the_temperature_falls_behind_an_opening(model: LlamaForCausalLM) -> None:
    """Oracle: frequencies of the first token behind an opening against a forward pass without a cache."""
    rows, opening = 4000, [7, 9]
    steps = _steps(
        model,
        start=0,
        stops=[1],
        rows=rows,
        temperature=0.5,
        limit=3,
        seed=3,
        openings=[opening] * rows,
        first_temperature=2.0,
    )
    drawn = [ids for _, ids in steps]
    assert set(drawn[0]) == {7}
    assert set(drawn[1]) == {9}
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[0, *opening]])).logits[0, -1]
    first = torch.softmax(logits / 2.0, -1)
    counts = Counter(drawn[2])
    for token in first.topk(3).indices.tolist():
        if token != 1:
            expected = float(first[token])
            assert abs(counts[token] / rows - expected) < 5 * math.sqrt(expected / rows)
    assert COOLING_TOKENS > 1


def test_what_repeats_itself_or_an_earlier_text_is_dropped() -> None:
    first = " ".join(f"word{number}" for number in range(40))
    nearly = first.replace("word20", "other")
    circles = "the same five words again " * 30
    new = " ".join(f"new{number}" for number in range(40))
    assert new_texts([first, nearly, circles, new, first, "short"]) == [first, new, "short"]
    half = " ".join(first.split()[:15] + new.split()[:25])
    assert new_texts([first, half]) == [first, half]


def test_a_kind_is_kept_apart_and_grows(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    def texts(kind: str, tokens: int) -> list[str]:
        return cached_self_texts(
            model,
            tokenizer,
            identity="m",
            settings=SelfSampleSection(document_tokens=40),
            min_tokens=tokens,
            cache_dir=tmp_path,
            kind=kind,
        )

    few, many, other = texts("prose", 200), texts("prose", 900), texts("lists", 200)
    assert many[: len(few)] == few
    assert len(many) > len(few)
    assert not set(few) & set(other)
    assert len(list(tmp_path.iterdir())) == 2
    assert texts("prose", 200) == few


@pytest.mark.parametrize("kind", KINDS)
def test_the_packaged_model_comes_with_every_kind(kind: str) -> None:
    assert packaged_sample("smollm2-135m", kind) is not None
    assert (packaged_sample("tiny-llama", kind) is None) == (kind != OFF_KIND)
