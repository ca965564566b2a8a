"""Questions out of rows, as tokens, and chosen within a number and a budget."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from datasets import Dataset
from pyarrow import parquet
from transformers import PreTrainedTokenizerBase

from nas_llm.config import DataSection
from nas_llm.data import QuestionSet, build_questions
from nas_llm.data._rows import Question
from nas_llm.data.questions import Encoded, encode
from nas_llm.errors import DataError

ASK: Mapping[str, Any] = {
    "template": "Q: {q}\nA: {answer}",
    "choices": "choices.text",
    "labels": "choices.label",
    "answer": "key",
}


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "q": f"What is the number {number} of the list?",
            "choices": {"text": ["a small stone", f"bird {number}", "rain"], "label": ["A", "B", "C"]},
            "key": "ABC"[number % 3],
        }
        for number in range(count)
    ]


def write(folder: Path, found: Sequence[Mapping[str, Any]], name: str = "rows.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
    return name


def build(
    folder: Path, tokenizer: PreTrainedTokenizerBase, *sources: Mapping[str, Any], window: int = 64, **settings: Any
) -> QuestionSet:
    data = DataSection.model_validate(
        {
            "window": window,
            "fitness": {"tokens": 2048},
            "questions": {"count": 4, **settings, "sources": list(sources)},
        }
    )
    found = build_questions(data, tokenizer=tokenizer, base_dir=folder)
    assert found is not None
    return found


def texts(tokenizer: PreTrainedTokenizerBase, question: Encoded) -> list[tuple[str, str]]:
    return [
        (str(tokenizer.decode(row[:start])), str(tokenizer.decode(row[start:])))
        for row, start in zip(question.rows, question.starts, strict=True)
    ]


def test_a_choice_begins_with_the_space_before_it(tokenizer: PreTrainedTokenizerBase) -> None:
    question = encode(Question(prompt="Say: ", choices=("a word", "b"), answer=1), tokenizer)
    assert texts(tokenizer, question) == [("Say:", " a word"), ("Say:", " b")]
    assert question.sizes == (6, 1)
    assert question.answer == 1
    assert question.num_tokens == sum(map(len, question.rows))


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "saved"])
def test_rows_become_questions(tmp_path: Path, tokenizer: PreTrainedTokenizerBase, kind: str) -> None:
    found = [*rows(3), {**rows(1)[0], "key": None}]
    name = f"rows.{kind}"
    if kind == "jsonl":
        write(tmp_path, found)
    elif kind == "parquet":
        parquet.write_table(pyarrow.Table.from_pylist(found), tmp_path / name)
    else:
        Dataset.from_list(found).save_to_disk(str(tmp_path / name))
    chosen = build(tmp_path, tokenizer, {"source": name, **ASK}, count=3)
    assert [question.answer for question in chosen.questions] == [0, 1, 2]
    assert texts(tokenizer, chosen.questions[1])[1] == ("Q: What is the number 1 of the list?\nA:", " bird 1")
    assert chosen.describe()["questions"] == 3
    assert chosen.describe()["sources"][0]["questions_available"] == 3


def test_choices_may_stand_in_the_prompt_and_in_columns(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    name = write(tmp_path, [{"goal": "Boil water.", "one": "Heat it.", "two": "Cool it.", "label": 1}])
    ask = {"template": "{goal}\n{choices}\nBest: {answer}", "choices": ["one", "two"], "answer": "label"}
    chosen = build(tmp_path, tokenizer, {"source": name, **ask}, count=1)
    prompt = "Boil water.\nA. Heat it.\nB. Cool it.\nBest:"
    assert texts(tokenizer, chosen.questions[0]) == [(prompt, " Heat it."), (prompt, " Cool it.")]
    assert chosen.questions[0].answer == 1


def test_questions_are_evenly_spaced_and_shared_by_weight(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    first, second = write(tmp_path, rows(40), "a.jsonl"), write(tmp_path, rows(10), "b.jsonl")
    sources = ({"source": first, "weight": 3, **ASK}, {"source": second, **ASK})
    chosen = build(tmp_path, tokenizer, *sources, count=8, tokens=10_000)
    asked = [texts(tokenizer, question)[0][0].split()[5] for question in chosen.questions]
    assert asked == ["0", "6", "13", "20", "26", "33", "0", "5"]
    assert [source["questions"] for source in chosen.sources] == [6, 2]
    assert build(tmp_path, tokenizer, *sources, count=8, tokens=10_000).digest() == chosen.digest()


def test_there_are_fewer_questions_where_tokens_run_out(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    source = {"source": write(tmp_path, rows(40)), **ASK}
    whole = build(tmp_path, tokenizer, source, count=20, tokens=10_000)
    part = build(tmp_path, tokenizer, source, count=20, tokens=whole.num_tokens // 2)
    assert len(whole) == 20
    assert 8 <= len(part) <= 10
    assert part.num_tokens <= whole.num_tokens // 2
    with pytest.raises(DataError, match=r"no question within 10 tokens.*data.questions.tokens, and data.window \(64\)"):
        build(tmp_path, tokenizer, source, tokens=10)


def test_a_long_question_gives_way(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    found = rows(4)
    found[0]["q"] = "long " * 300
    chosen = build(tmp_path, tokenizer, {"source": write(tmp_path, found), **ASK}, count=2)
    assert [texts(tokenizer, question)[0][0].split()[5] for question in chosen.questions] == ["1", "2"]
    assert chosen.longest <= 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "D"}, r"line 2: the answer 'D' is none of 'A', 'B', 'C'; say with labels"),
        (
            {"choices": {"text": ["one"], "label": ["A"]}, "key": "A"},
            r"line 2: the choices are \['one'\]; .* two or more",
        ),
        (
            {"choices": {"text": ["one", " "], "label": ["A", "B"]}, "key": "A"},
            r"line 2: the choices .* none of them empty",
        ),
        ({"choices": {"text": "one", "label": ["A"]}}, r"'choices.text' is str, not a list of texts"),
    ],
)
def test_bad_rows_are_named(
    tmp_path: Path, tokenizer: PreTrainedTokenizerBase, change: Mapping[str, Any], message: str
) -> None:
    found = rows(4)
    found[1] |= change
    with pytest.raises(DataError, match=message):
        build(tmp_path, tokenizer, {"source": write(tmp_path, found), **ASK})


def test_bad_sources_are_named(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(DataError, match=r"has 3 questions with choices, needed are 4; give more, or lower data.quest"):
        build(tmp_path, tokenizer, {"source": write(tmp_path, rows(3)), **ASK})
    (tmp_path / "prose.txt").write_text("no rows", encoding="utf-8")
    with pytest.raises(DataError, match=r"prose.txt has no rows with choices; give a .jsonl or .parquet file"):
        build(tmp_path, tokenizer, {"source": "prose.txt", **ASK})
    with pytest.raises(DataError, match=r"missing.jsonl does not exist"):
        build(tmp_path, tokenizer, {"source": "missing.jsonl", **ASK})
    with pytest.raises(DataError, match=r"nothing stands before the answer"):
        build(tmp_path, tokenizer, {"source": write(tmp_path, rows(4)), **ASK, "template": "{answer}"})


def test_a_set_holds_what_can_be_scored(tokenizer: PreTrainedTokenizerBase) -> None:
    good = encode(Question(prompt="Say: ", choices=("a word", "b"), answer=1), tokenizer)
    with pytest.raises(DataError, match="holds no questions"):
        QuestionSet(questions=())
    for bad in (
        Encoded(good.rows[:1], good.starts[:1], good.sizes[:1], 0),
        Encoded(good.rows, (0, 0), good.sizes, 0),
        Encoded(good.rows, tuple(map(len, good.rows)), good.sizes, 0),
    ):
        with pytest.raises(DataError, match="question 2 of 'questions' needs a prompt and two choices with text"):
            QuestionSet(questions=(good, bad))
    with pytest.raises(DataError, match="its answer 2 not among"):
        QuestionSet(questions=(Encoded(good.rows, good.starts, good.sizes, 2),))


def test_the_digest_tells_questions_apart(tokenizer: PreTrainedTokenizerBase) -> None:
    one = encode(Question(prompt="Say: ", choices=("a word", "b"), answer=1), tokenizer)
    changed = [
        one,
        Encoded(one.rows, one.starts, one.sizes, 0),
        Encoded(one.rows, one.starts, (6, 2), 1),
        Encoded(one.rows, tuple(start - 1 for start in one.starts), one.sizes, 1),
        Encoded((one.rows[0], np.append(one.rows[1], 7)), one.starts, one.sizes, 1),
    ]
    assert len({QuestionSet(questions=(question,)).digest() for question in changed}) == len(changed)
