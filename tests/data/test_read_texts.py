from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from nas_llm.config import SourceSection
from nas_llm.data import read_hub, read_texts
from nas_llm.data._sources import read_source
from nas_llm.errors import DataError

DOCUMENTS = ["first text\nof two lines", "zweiter Text: \u00fc\u2028\U0001f41f"]


def _write_jsonl(path: Path, key: str = "text") -> Path:
    path.write_text("".join(json.dumps({key: t}, ensure_ascii=False) + "\n" for t in DOCUMENTS), encoding="utf-8")
    return path


def _write_parquet(path: Path) -> Path:
    parquet.write_table(pyarrow.table({"text": [*DOCUMENTS, None, " "], "number": [1, 2, 3, 4]}), path)
    return path


@pytest.mark.parametrize("suffix", [".txt", ".raw", ".md", ".TXT"])
def test_a_text_file_is_one_document(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("\n".join(DOCUMENTS), encoding="utf-8")
    assert read_texts(path) == ["\n".join(DOCUMENTS)]


def test_jsonl_and_parquet_hold_one_document_a_row(tmp_path: Path) -> None:
    assert read_texts(_write_jsonl(tmp_path / "a.jsonl")) == DOCUMENTS
    assert read_texts(_write_jsonl(tmp_path / "b.jsonl", "body"), column="body") == DOCUMENTS
    assert read_texts(str(_write_parquet(tmp_path / "a.parquet"))) == DOCUMENTS


def test_missing_file_names_the_nearest_sibling(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "calibration.jsonl")
    with pytest.raises(DataError, match=r"calibratoin\.jsonl does not exist; did you mean 'calibration\.jsonl'\?"):
        read_texts(tmp_path / "calibratoin.jsonl")
    with pytest.raises(DataError, match=r"zzz\.txt does not exist; check the path"):
        read_texts(tmp_path / "zzz.txt")
    with pytest.raises(DataError, match=r"nor does its folder .*nowhere; check the path"):
        read_texts(tmp_path / "nowhere" / "a.txt")
    with pytest.raises(DataError, match="is a folder, not a text file"):
        read_texts(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n", r"a\.txt is empty: no text; give a file with text"),
        ("a.jsonl", b"", r"a\.jsonl is empty: no text in column 'text'"),
        ("a.csv", b"x", r"unknown kind of text file '\.csv'; give one of \.txt, \.raw, \.md, \.jsonl, \.parquet"),
        ("a.txt", b"ab\xff", r"is not UTF-8 \(byte 2\); convert it"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": ', r"a\.jsonl, line 3: bad JSON \(Expecting value, column 10\)"),
        ("a.jsonl", b'["a"]', r"line 1: a list, not a JSON object"),
        ("a.jsonl", b'{"title": "a", "body": "b"}', r"no column 'text'; its columns are 'title', 'body'"),
        ("a.jsonl", b'{"text": 3}', r"line 1: row 1 of column 'text' is int, not text"),
        ("a.parquet", b"PAR0", r"a\.parquet is not a readable parquet file"),
    ],
)
def test_messages(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_texts(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_parquet_columns_are_checked(tmp_path: Path) -> None:
    path = _write_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column 'body'; its columns are 'text', 'number'"):
        read_texts(path, column="body")
    with pytest.raises(DataError, match=r"row 1 of column 'number' is int, not text"):
        read_texts(path, column="number")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("offline")
def test_datasets_loads_a_folder_and_reports_what_is_missing(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    _write_jsonl(folder / "train.jsonl")
    assert read_hub(str(folder)) == DOCUMENTS
    assert read_hub(str(folder), split="train[1:]") == DOCUMENTS[1:]
    assert read_source(SourceSection(source="corpus", split="train[:1]"), base_dir=tmp_path) == DOCUMENTS[:1]
    with pytest.raises(DataError, match=r"no column 'body'; its columns are 'text'"):
        read_hub(str(folder), column="body")
    with pytest.raises(DataError, match=r"split 'test' cannot be loaded \(.*test.*\); check name, subset and split"):
        read_hub(str(folder), split="test")


@pytest.mark.usefixtures("offline")
def test_a_hub_dataset_that_cannot_be_had_is_one_clear_line() -> None:
    with pytest.raises(DataError, match=r"dataset 'nobody/nothing', subset 'en', split 'train' cannot be") as caught:
        read_hub("nobody/nothing", subset="en")
    assert "\n" not in str(caught.value)
    assert "give a local .txt, .jsonl or .parquet file" in str(caught.value)
