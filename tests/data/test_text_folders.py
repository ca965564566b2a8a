"""Folders as sources of text, and what tokenizers do not take, in all kinds of files."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet
from transformers import PreTrainedTokenizerFast

from nas_llm.config import DataSection, SourceSection
from nas_llm.data import build_splits, perplexity_windows, read_reporting_text, read_texts
from nas_llm.data._sources import read_source
from nas_llm.errors import DataError

# As cutting UTF-16 in the middle of an emoji leaves it.
HALF, MENDED = "A short note \ud83d", "A short note \ufffd"


def _folder(path: Path, **files: str) -> Path:
    for name, text in files.items():
        place = path / name.replace("__", "/").replace("_txt", ".txt").replace("_md", ".md")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    return path


def _saved(path: Path, *, rows: dict[str, list[str]], split: str | None = None) -> Path:
    import datasets

    parts = {name: datasets.Dataset.from_dict({"text": texts}) for name, texts in rows.items()}
    if len(parts) == 1 and split is None:
        next(iter(parts.values())).save_to_disk(str(path))
    else:
        datasets.DatasetDict(parts).save_to_disk(str(path))
    return path


def test_a_folder_of_text_files_is_one_document_a_file(tmp_path: Path) -> None:
    folder = _folder(
        tmp_path / "books",
        b_txt="second",
        a_txt="first\nof two lines",
        more__c_md="third",
        README_md="what these are",
        empty_txt=" \n",
        **{".hidden_txt": "not this"},
    )
    texts = ["first\nof two lines", "second", "third"]
    assert read_texts(folder) == texts
    assert read_source(SourceSection(source="books"), base_dir=tmp_path) == texts
    assert read_source(SourceSection(source="books", split="train[1:]"), base_dir=tmp_path) == ["second", "third"]
    assert read_reporting_text(folder).documents == tuple(texts)
    with pytest.raises(DataError, match=r"books has no split 'test'.*; there are 'train'"):
        read_texts(folder, split="test")
    with pytest.raises(DataError, match=r"books: a template needs columns"):
        read_source(SourceSection(source="books", template="{a}"), base_dir=tmp_path)


def test_splits_of_a_folder_are_kept_apart(tmp_path: Path) -> None:
    files = _folder(tmp_path / "files", train_txt="for training", test_txt="to judge")
    assert read_texts(files) == ["for training"]
    assert read_texts(files, split="test") == ["to judge"]
    folders = _folder(tmp_path / "folders", train__a_txt="a", train__b_txt="b", dev__c_txt="c")
    assert read_texts(folders) == ["a", "b"]
    assert read_texts(folders, split="validation") == ["c"]
    # One that is not called so among them: these are titles, not splits.
    assert read_texts(_folder(tmp_path / "titles", train_txt="a train", boat_txt="a boat")) == ["a boat", "a train"]


def test_a_folder_of_rows_stays_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = _folder(tmp_path / "rows", notes_txt="about it")
    (folder / "train.jsonl").write_text(json.dumps({"text": "a row"}) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="is a folder, not a text file; give a file in it, or a folder of .txt"):
        read_texts(folder)
    (folder / "notes.txt").unlink()
    assert read_source(SourceSection(source="rows"), base_dir=tmp_path) == ["a row"]


def test_what_datasets_saved_is_read_back(tmp_path: Path) -> None:
    one = _saved(tmp_path / "one", rows={"train": ["first", " ", "third"]})
    assert read_texts(one) == ["first", "third"]
    assert read_texts(one, split="train[:1]") == ["first"]
    assert read_source(SourceSection(source="one"), base_dir=tmp_path) == ["first", "third"]
    assert read_reporting_text(one).documents == ("first", "third")
    several = _saved(tmp_path / "several", rows={"train": ["a", "b"], "test": ["c"]})
    assert read_texts(several) == ["a", "b"]
    assert read_texts(several, split="test") == ["c"]
    assert read_texts(several, split="train[1:]+test") == ["b", "c"]
    assert read_texts(several / "test") == ["c"]
    with pytest.raises(DataError, match=r"has no split 'validation'.*there are 'train', 'test', each also by its own"):
        read_texts(several, split="validation")
    with pytest.raises(DataError, match=r"no column 'body'; its columns are 'text'"):
        read_texts(one, column="body")
    section = SourceSection(source="several", template="<{text}>", split="test")
    assert read_source(section, base_dir=tmp_path) == ["<c>"]


def test_a_damaged_saved_dataset_is_one_clear_line(tmp_path: Path) -> None:
    folder = _saved(tmp_path / "one", rows={"train": ["first"]})
    (folder / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="one cannot be read as a saved dataset") as caught:
        read_texts(folder)
    assert "\n" not in str(caught.value)


def test_halves_of_surrogate_pairs_become_the_replacement_character(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": HALF}) + "\n" + json.dumps({"text": "whole \U0001f41f"}) + "\n")
    assert read_texts(rows) == [MENDED, "whole \U0001f41f"]
    template = SourceSection(source="rows.jsonl", template="note: {text}")
    assert read_source(template, base_dir=tmp_path)[0] == f"note: {MENDED}"
    long = tmp_path / "long.jsonl"
    long.write_text((json.dumps({"text": HALF}) + "\n") * 60)
    section = {"tokens": 32, "sources": [{"source": "long.jsonl"}]}
    data = DataSection.model_validate(
        {"off_text": {"tokens": 0}, "window": 8, "calibration": section, "fitness": section, "held_out": section}
    )
    splits = build_splits(data, tokenizer=tokenizer, self_texts=lambda tokens: [], base_dir=tmp_path)
    assert splits.fitness.num_tokens == 32
    assert perplexity_windows(long, tokenizer=tokenizer, window=8).num_tokens


def test_bytes_that_are_no_text_are_one_clear_line(tmp_path: Path) -> None:
    """What UTF-8 would make of half a pair, which no decoder takes."""
    (tmp_path / "a.txt").write_bytes(b"A short note \xed\xa0\xbd")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8 \(byte 13\)"):
        read_texts(tmp_path / "a.txt")
    raw = pyarrow.array([b"fine", b"A short note \xed\xa0\xbd"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "a.parquet")
    for section in (SourceSection(source="a.parquet"), SourceSection(source="a.parquet", template="{text}")):
        with pytest.raises(DataError, match=r"a\.parquet: a text is not UTF-8 \(.*byte 13 of it\); convert it"):
            read_source(section, base_dir=tmp_path)


def test_bytes_in_a_dataset_that_are_no_text_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    raw = pyarrow.array([b"fine", b"A short note \xed\xa0\xbd"]).view(pyarrow.string())
    (tmp_path / "hub").mkdir()
    parquet.write_table(pyarrow.table({"text": raw}), tmp_path / "hub" / "train.parquet")
    for section in (SourceSection(source="hub"), SourceSection(source="hub", template="{text}")):
        with pytest.raises(DataError, match=r"dataset .*hub.*: a text is not UTF-8 \(.*byte 13 of it\); convert it"):
            read_source(section, base_dir=tmp_path)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "inside.jsonl", "a.parquet", "folder", "saved"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    row = json.dumps({"text": "first words"})
    match name:
        case "a.txt":
            path.write_bytes("first words".encode("utf-8-sig"))
        case "a.jsonl":
            path.write_bytes(row.encode("utf-8-sig"))
        case "inside.jsonl":
            path.write_text(json.dumps({"text": "\ufefffirst words"}), encoding="utf-8")
        case "a.parquet":
            parquet.write_table(pyarrow.table({"text": ["\ufefffirst words"]}), path)
        case "folder":
            path.mkdir()
            (path / "a.txt").write_bytes("first words".encode("utf-8-sig"))
        case "saved":
            _saved(path, rows={"train": ["\ufefffirst words"]})
    assert read_texts(path) == ["first words"]
