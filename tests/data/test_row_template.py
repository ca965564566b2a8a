from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from nas_llm.config import SourceSection
from nas_llm.data import build_splits
from nas_llm.data._sources import read_source
from nas_llm.errors import DataError

Rows = Sequence[Mapping[str, Any]]

LABELLED: Rows = [
    {"q": "Which is red?", "choices": {"text": ["sky", "rose"], "label": ["A", "B"]}, "key": "B"},
    {"q": "Which is wet?", "choices": {"text": ["rain", "sand"], "label": ["1", "2"]}, "key": "1"},
]
PAIRS: Rows = [{"goal": "Boil water.", "one": "Heat it.", "two": "Cool it.", "label": 0}]


def write(folder: Path, rows: Rows, kind: str) -> str:
    path = folder / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path.name


def texts(folder: Path, rows: Rows, kind: str = "jsonl", **section: Any) -> list[str]:
    return read_source(SourceSection(source=write(folder, rows, kind), **section), base_dir=folder)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_questions_get_the_text_of_their_right_answer(tmp_path: Path, kind: str) -> None:
    named = {"choices": "choices.text", "labels": "choices.label", "answer": "key"}
    assert texts(tmp_path, LABELLED, kind, template="Q: {q}\nA: {answer}", **named) == [
        "Q: Which is red?\nA: rose",
        "Q: Which is wet?\nA: rain",
    ]
    assert texts(tmp_path, LABELLED, kind, template="{choices}", **named) == ["A. sky\nB. rose", "1. rain\n2. sand"]
    pair = {"template": "{goal} {answer}", "choices": ["one", "two"], "answer": "label"}
    assert texts(tmp_path, PAIRS, kind, **pair) == ["Boil water. Heat it."]


@pytest.mark.parametrize(
    ("answer", "labels", "expected"),
    [
        (1, None, "b"),
        ("1", None, "b"),
        ("B", None, "b"),
        (True, None, "b"),
        ("1", ["1", "2"], "a"),
        (2, ["1", "2"], "b"),
    ],
)
def test_answers_are_positions_from_zero_letters_or_labels(
    tmp_path: Path, answer: object, labels: list[str] | None, expected: str
) -> None:
    rows = [{"list": ["a", "b"], "right": answer}]
    given = {"template": "{answer}", "choices": "list", "answer": "right", "labels": labels}
    assert texts(tmp_path, rows, **given) == [expected]


def test_plain_columns_numbers_and_braces_are_filled_in_and_nulls_left_out(tmp_path: Path) -> None:
    rows = [{"a": "x", "n": 3, "t": True}, {"a": None, "n": 4, "t": False}, {"a": "{a}", "n": 0.5, "t": False}]
    assert texts(tmp_path, rows, template="{{{a}}} {n} {t}") == ["{x} 3 True", "{{a}} 0.5 False"]


@pytest.mark.parametrize(
    ("rows", "section", "message"),
    [
        (PAIRS, {"template": "{gaol}"}, r"line 1: no column 'gaol'; its columns are 'goal', 'one', 'two', 'label'"),
        (LABELLED, {"template": "{choices}"}, r"'choices' is dict, not text; name a part of it \(with a dot\)"),
        (LABELLED, {"template": "{choices.texts}"}, r"column 'choices' holds no 'texts' .*there are 'text', 'label'"),
        (LABELLED, {"template": "{answer}", "choices": "q", "answer": "key"}, r"'q' is str, not a list of texts"),
        (PAIRS, {"template": "{answer}", "choices": ["one", "two"], "answer": "goal"}, r"none of '0', '1', 'A', 'B'"),
        (LABELLED, {"template": "{answer}", "choices": ["q"], "labels": ["A", "B"], "answer": "key"}, "choice 2 of 1"),
        ([{"a": None}], {"template": "{a}"}, r"is empty: no text by the template '\{a\}'"),
    ],
)
def test_rows_that_do_not_fit_are_one_clear_line(
    tmp_path: Path, rows: Rows, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        texts(tmp_path, rows, **section)
    assert "\n" not in str(caught.value)


def test_parquet_and_data_set_columns_are_checked_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.parquet: no column 'gaol'; its columns are"):
        texts(tmp_path, PAIRS, "parquet", template="{gaol}")
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder, PAIRS, "jsonl")
    source = SourceSection(source="folder", template="{goal} {answer}", choices=["one", "two"], answer="label")
    assert read_source(source, base_dir=tmp_path) == ["Boil water. Heat it."]
    with pytest.raises(DataError, match="no column 'gaol'"):
        read_source(SourceSection(source="folder", template="{gaol}"), base_dir=tmp_path)
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(DataError, match=r"a template needs columns, which \.txt has not"):
        read_source(SourceSection(source="a.txt", template="{goal}"), base_dir=tmp_path)


def test_prose_and_questions_are_mixed_by_weight(tmp_path: Path, tokenizer: Any, prose: Any) -> None:
    from nas_llm.config import DataSection

    (tmp_path / "prose.txt").write_text(prose(3000), encoding="utf-8")
    rows = [{"q": f"what is {n}?", "a": f"the number {n}"} for n in range(400)]
    sources = [
        {"source": "prose.txt", "weight": 3},
        {"source": write(tmp_path, rows, "jsonl"), "template": "Question: {q}\nAnswer: {a}"},
    ]
    split = {"tokens": 8 * 16, "sources": sources}
    data = DataSection.model_validate(
        {"off_text": {"tokens": 0}, "window": 16, "calibration": split, "fitness": split, "held_out": split}
    )
    splits = build_splits(data, tokenizer=tokenizer, self_texts=lambda tokens: [], base_dir=tmp_path)
    decoded = [tokenizer.decode(window) for window in splits.fitness.tokens]
    assert len(decoded) == 8
    assert [text in prose(3000) for text in decoded] == [True] * 6 + [False] * 2
    assert splits.fitness.sources[1]["template"] == "Question: {q}\nAnswer: {a}"
