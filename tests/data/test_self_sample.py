from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import DynamicCache, LlamaForCausalLM, PreTrainedTokenizerFast

from nas_llm.config import SelfSampleSection
from nas_llm.data import cached_self_texts, sample_documents, token_windows
from nas_llm.data.self_text._kv_cache import growing_cache
from nas_llm.data.self_text._sample import _steps, sample_batches
from nas_llm.errors import DataError


def _sample(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, **changes: object) -> list[str]:
    arguments = {"tokens": 300, "temperature": 1.0, "document_tokens": 20, "seed": 0, "batch_size": 8} | changes
    return sample_documents(model, tokenizer, **arguments)  # type: ignore[arg-type]


def _rng_state() -> tuple[object, ...]:
    return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[index]


def test_the_seed_decides_and_the_global_rng_is_untouched(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    model.train()
    before = _rng_state()
    first = _sample(model, tokenizer)
    assert _rng_state() == before
    assert model.training, "the mode of the model is given back"
    model.train(False)
    torch.manual_seed(123)
    assert _sample(model, tokenizer) == first
    assert _sample(model, tokenizer, seed=1) != first


def test_more_tokens_only_append(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    few, many = _sample(model, tokenizer, tokens=100), _sample(model, tokenizer, tokens=500)
    assert len(few) < len(many)
    assert many[: len(few)] == few
    batches = sample_batches(model, tokenizer, temperature=1.0, document_tokens=20, seed=0, batch_size=8, first=1)
    second = [text for text, _ in next(batches)]
    start = many.index(second[0])
    assert many[start : start + len(second)] == second, "a batch depends on seed and number alone"


def test_documents_obey_their_length_and_hold_no_special_token(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    seen: list[int] = []
    batches = sample_batches(
        model, tokenizer, temperature=1.0, document_tokens=20, seed=0, batch_size=16, on_progress=seen.append
    )
    rows = next(batches) + next(batches)
    assert max(length for _, length in rows) <= 20
    assert min(length for _, length in rows) < 20, "some documents end by themselves"
    assert not any("<|" in text for text, _ in rows)
    assert seen == sorted(seen)
    assert seen[-1] >= sum(length for _, length in rows)


def test_tokens_follow_the_model(model: LlamaForCausalLM) -> None:
    """Oracle: frequencies of the first two tokens against probabilities from forward passes without a cache."""
    rows, temperature = 6000, 0.7
    drawn: list[list[int]] = [[] for _ in range(rows)]
    for alive, ids in _steps(model, start=0, stops=[1], rows=rows, temperature=temperature, limit=2, seed=3):
        for row, token in zip(alive, ids, strict=True):
            drawn[row].append(token)
    with torch.inference_mode():
        first = torch.softmax(model(input_ids=torch.tensor([[0]])).logits[0, -1] / temperature, -1)
        top = int(torch.where(torch.arange(len(first)) == 1, 0, first).argmax())
        second = torch.softmax(model(input_ids=torch.tensor([[0, top]])).logits[0, -1] / temperature, -1)
    ended = sum(not row for row in drawn) / rows
    assert ended == pytest.approx(float(first[1]), abs=4 * (0.25 / rows) ** 0.5)
    counts = Counter(row[0] for row in drawn if row)
    for token, probability in enumerate(first.tolist()):
        if token != 1:
            spread = (probability * (1 - probability) / rows) ** 0.5
            assert abs(counts[token] / rows - probability) < 5 * spread + 2e-3
    followers = Counter(row[1] for row in drawn if row[:1] == [top] and len(row) == 2)
    total = counts[top]
    assert total > 100
    for token, probability in enumerate(second.tolist()):
        if token != 1:
            spread = (probability * (1 - probability) / total) ** 0.5
            assert abs(followers[token] / total - probability) < 5 * spread + 0.02


def test_rows_that_leave_the_batch_do_not_disturb_the_rest(model: LlamaForCausalLM) -> None:
    """Oracle: the likelihood that the cached, shrinking batch saw is that of a plain forward pass of each row."""
    seen: list[torch.Tensor] = []
    hook = model.register_forward_hook(lambda _m, _a, out: seen.append(out.logits[:, -1].clone()))
    rows: list[list[int]] = [[] for _ in range(12)]
    members: list[list[int]] = [list(range(12))]
    for alive, ids in _steps(model, start=0, stops=[1, 2, 3, 4, 5, 6], rows=12, temperature=1.0, limit=20, seed=5):
        members.append(alive)
        for row, token in zip(alive, ids, strict=True):
            rows[row].append(token)
    hook.remove()
    assert len(members[-1]) < len(members[0]), "some rows must have left"
    for step, (logits, inside) in enumerate(zip(seen, members, strict=False)):
        for position, row in enumerate(inside):
            with torch.inference_mode():
                plain = model(input_ids=torch.tensor([[0, *rows[row][:step]]])).logits[0, -1]
            torch.testing.assert_close(logits[position], plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("rows_that_stay", [[0, 2, 3], [1], [0, 1, 2, 3]])
def test_the_growing_cache_equals_that_of_transformers(model: LlamaForCausalLM, rows_that_stay: list[int]) -> None:
    ours, theirs = growing_cache(model.config), DynamicCache(config=model.config)
    generator = torch.Generator().manual_seed(0)
    # Past two doublings of the buffers, with rows leaving in the middle and prompts of several tokens at both ends.
    for step, length in enumerate([5, *[1] * 150, 3]):
        if step == 70:
            for cache in (ours, theirs):
                cache.batch_select_indices(torch.tensor(rows_that_stay))
        rows = 4 if step < 70 else len(rows_that_stay)
        keys, values = torch.randn(2, rows, 2, length, 4, generator=generator)
        for layer in range(2):
            for got, wanted in zip(ours.update(keys, values, layer), theirs.update(keys, values, layer), strict=True):
                assert torch.equal(got, wanted)
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_sampling_uses_the_cache(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    lengths: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _module, _args, inputs: lengths.append(inputs["input_ids"].shape[1]), with_kwargs=True
    )
    _sample(model, tokenizer)
    hook.remove()
    assert set(lengths) == {1}


def test_messages(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("temperature", "document_tokens", "batch_size"):
        with pytest.raises(DataError, match=f"{name} must be positive, got 0"):
            _sample(model, tokenizer, **{name: 0})
    monkeypatch.setattr(model.generation_config, "eos_token_id", list(range(len(tokenizer))))
    with pytest.raises(DataError, match="the model wrote 8 blank documents in a row from its start token 0; give a"):
        _sample(model, tokenizer)


def test_a_model_without_any_start_token(model: LlamaForCausalLM, make_tokenizer: object) -> None:
    bare = make_tokenizer(["a b c"], special=[], eos=None)  # type: ignore[operator]
    with pytest.raises(DataError, match="no end-of-text, bos or eos token to start a document from"):
        _sample(model, bare)


def _cached(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, cache: Path, **changes: object) -> list[str]:
    arguments = {"identity": "m1", "settings": SelfSampleSection(document_tokens=12), "min_tokens": 200} | changes
    return cached_self_texts(model, tokenizer, cache_dir=cache, **arguments)  # type: ignore[arg-type]


def test_the_cache_spares_the_model_and_grows(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    drawn: list[int] = []
    first = _cached(model, tokenizer, tmp_path / "new" / "cache", on_progress=drawn.append)
    assert drawn
    assert token_windows(tokenizer, first, window=200).shape[0] >= 1
    assert token_windows(tokenizer, first[:-1], window=200).shape[0] == 0, "no more documents than needed"
    files = list((tmp_path / "new" / "cache").iterdir())
    assert [file.suffix for file in files] == [".jsonl"], "no partial file is left"
    size = files[0].stat().st_size

    drawn.clear()
    assert _cached(model, tokenizer, tmp_path / "new" / "cache", on_progress=drawn.append) == first
    assert not drawn
    more = _cached(model, tokenizer, tmp_path / "new" / "cache", min_tokens=2500, on_progress=drawn.append)
    assert drawn
    assert more[: len(first)] == first
    assert files[0].stat().st_size > size
    assert _cached(model, tokenizer, tmp_path / "new" / "cache") == first, "a longer cache changes no answer"
    assert _cached(model, tokenizer, tmp_path / "other", min_tokens=2500) == more, "nor does the way it grew"


def test_the_cache_tells_models_and_settings_apart(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    _cached(model, tokenizer, tmp_path)
    _cached(model, tokenizer, tmp_path, identity="m2")
    for changed in ({"temperature": 0.5}, {"seed": 1}, {"document_tokens": 13}):
        _cached(model, tokenizer, tmp_path, settings=SelfSampleSection(**{"document_tokens": 12, **changed}))
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_is_named(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    _cached(model, tokenizer, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:-5] + "\n")
    with pytest.raises(DataError, match=rf"{path.name} is damaged: .*; delete it"):
        _cached(model, tokenizer, tmp_path)


def test_an_interrupted_write_leaves_the_old_cache(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _cached(model, tokenizer, tmp_path)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(DataError, match=r"cannot write .*\.jsonl: disk full; free some space or set NAS_LLM_CACHE"):
            _cached(model, tokenizer, tmp_path, min_tokens=2500)
    assert [file.suffix for file in tmp_path.iterdir()] == [".jsonl"]
    assert _cached(model, tokenizer, tmp_path) == first


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, nas_llm.data; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'datasets')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
