"""Perplexity as the literature reports it, from the file to the number, against a loop of our own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
import torch
from pyarrow import parquet
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from nas_llm.data import NAMED_TEXTS, perplexity_windows, read_reporting_text
from nas_llm.data import _named_texts as named_texts
from nas_llm.errors import DataError
from nas_llm.evaluation import load_any, model_perplexity
from nas_llm.models import PACKAGED_MODELS

ROWS = [
    "",
    " = Kites = \n",
    "",
    " A kite is tethered and flies because the wind lifts it . \n",
    "",
    "It has a tail .\n",
]


def test_equals_a_loop_of_transformers_alone(tmp_path: Path) -> None:
    text = "\n\n".join(ROWS * 12)
    (tmp_path / "kites.raw").write_text(text, encoding="utf-8")
    where = PACKAGED_MODELS["tiny-llama"].locate()
    tokenizer = AutoTokenizer.from_pretrained(where)
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()
    ids = tokenizer(text, return_tensors="pt").input_ids
    window, losses = 128, []
    for start in range(0, ids.shape[1] - window + 1, window):
        part = ids[:, start : start + window]
        with torch.no_grad():
            logits = model(part).logits
        losses.append(functional.cross_entropy(logits[0, :-1].double(), part[0, 1:]).item())
    expected = math.exp(sum(losses) / len(losses))

    source = read_reporting_text(tmp_path / "kites.raw")
    measured, own = load_any("tiny-llama")
    windows = perplexity_windows(source.documents, tokenizer=own, window=window, special_tokens=True)
    assert len(windows.tokens) == len(losses) > 2
    assert model_perplexity(measured, windows) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "separator"), [("wikitext2", "\n\n"), ("ptb", " "), ("c4", " ")])
def test_named_texts_are_joined_as_the_literature_joins_them(
    name: str, separator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = NAMED_TEXTS[name]
    rows = ROWS * 200 if spec.rows else ROWS
    file = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({spec.column: rows}), file)
    local = replace(spec, dataset="parquet", subset=None, revision=None, files={spec.split: str(file)})
    monkeypatch.setitem(named_texts.NAMED_TEXTS, name, local)  # type: ignore[arg-type]
    text = read_reporting_text(name)
    assert text.documents == (separator.join(rows[: spec.rows]),)
    assert len(rows[: spec.rows]) == (1100 if name == "c4" else len(ROWS))
    assert (text.name, text.windows) == (name, 256 if name == "c4" else None)


def test_ptb_is_found_in_a_branch_of_parquet_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "validation", "test"):
        file = tmp_path / "penn_treebank" / split / "0000.parquet"
        file.parent.mkdir(parents=True)
        parquet.write_table(pyarrow.table({"sentence": [f"of {split}", "no it was n't"]}), file)
    local = replace(NAMED_TEXTS["ptb"], dataset=str(tmp_path), revision=None)
    monkeypatch.setitem(named_texts.NAMED_TEXTS, "ptb", local)  # type: ignore[arg-type]
    assert read_reporting_text("ptb").documents == ("of test no it was n't",)


def test_a_tokenizer_adds_its_own_special_tokens_once(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(PACKAGED_MODELS["tiny-llama"].locate())
    text = "A kite flies. " * 60
    plain = perplexity_windows([text], tokenizer=tokenizer, window=16)

    def with_start(texts: list[str], *, add_special_tokens: bool, **options: object) -> dict[str, list[list[int]]]:
        found = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return {"input_ids": [[7] * add_special_tokens + ids for ids in found]}

    with_start.get_vocab, with_start.eos_token_id = tokenizer.get_vocab, 0  # type: ignore[attr-defined]
    started = perplexity_windows([text], tokenizer=with_start, window=16, special_tokens=True)  # type: ignore[arg-type]
    assert started.tokens.ravel()[0] == 7
    assert started.tokens.ravel()[1:65].tolist() == plain.tokens.ravel()[:64].tolist()
    several = perplexity_windows([text, text], tokenizer=with_start, window=16, special_tokens=True)  # type: ignore[arg-type]
    assert several.tokens.ravel()[0] != 7


def test_texts_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'Salesforce/wikitext'.*cannot be loaded.*or give a local"):
        read_reporting_text("wikitext2")
    with pytest.raises(DataError, match="'wikitext' is none of wikitext2, ptb, c4.*did you mean wikitext2"):
        read_reporting_text("wikitext")
    with pytest.raises(DataError, match="text 'a_text' is none of"):
        read_reporting_text("a_text")
    with pytest.raises(DataError, match="does not exist"):
        read_reporting_text(tmp_path / "a.txt")
