"""What a fitness is made of, and what it cannot be made of."""

from __future__ import annotations

import pytest

from nas_llm.config import Problem, dump_problem, load_problem
from nas_llm.errors import ConfigError

SOURCE = "{source='a.jsonl', template='Q: {q}\\nA: {answer}', choices='c', answer='a'}"
QUESTIONS = f"data.questions={{sources=[{SOURCE}]}}"


def problem(*overrides: str) -> Problem:
    return load_problem("tiny-llama", overrides=list(overrides)).problem


@pytest.mark.parametrize(
    ("overrides", "quality", "asks"),
    [
        (["objectives=['margin', 'params']", QUESTIONS], "margin", True),
        (["objectives=['fitness', 'params']", "fitness.terms={kl=1, margin=0.5}", QUESTIONS], "fitness", True),
        (["objectives=['fitness', 'params']", "fitness.terms={perplexity=1}"], "fitness", False),
        (["objectives=['kl', 'params']", QUESTIONS], "kl", False),
        ([], "perplexity", False),
    ],
)
def test_qualities_that_work(overrides: list[str], quality: str, asks: bool) -> None:
    found = problem(*overrides)
    assert found.quality == quality
    assert found.asks_questions is asks
    assert found.prices == found.objectives[1:]
    assert len(dump_problem(found)) > 100


def test_a_definition_that_was_written_out_is_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = problem("objectives=['fitness', 'params']", "fitness.terms={kl=1.0, margin=0.5}", QUESTIONS)
    path = tmp_path_factory.mktemp("problem") / "p.toml"
    path.write_text(dump_problem(found), encoding="utf-8")
    assert load_problem(str(path)).problem == found


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["objectives=['margin', 'params']"], r"margin is measured on questions, and there are none; give \[data.que"),
        (
            ["objectives=['fitness', 'params']", "fitness.terms={margin=1}"],
            r"margin is measured on questions, and there are none",
        ),
        (["objectives=['fitness', 'params']"], r"weighted sum of terms; give them, e.g. fitness.terms = \{kl = 1.0"),
        (["objectives=['kl', 'params']", "fitness.terms={kl=1}"], r'but objectives name "kl"; name "fitness" instead'),
        (["objectives=['kl', 'margin', 'params']", QUESTIONS], r"exactly one of perplexity, kl, margin, fitness"),
        (["fitness.terms={margni=1}"], r'unknown term "margni"; did you mean "margin"\?'),
        (["fitness.terms={kl=0}"], r"fitness.terms.kl = 0.0 is no weight; give a number above 0"),
        (["fitness.terms={kl=inf}"], r"fitness.terms.kl = inf is no weight"),
        (["fitness.terms={kl=1, perplexity=1}"], r"has kl and perplexity, which measure the same text"),
        (
            ["objectives=['margin', 'params']", "fitness.racing=true", QUESTIONS],
            r"works for perplexity and kl, not for margin; set it to false",
        ),
        (
            ["data.questions={sources=[{source='a.jsonl', template='{q} {answer}'}]}"],
            r"source 'a.jsonl' of questions has no choices; give template, choices and answer",
        ),
        (["data.questions={sources=[{source='a.jsonl'}]}"], r"source 'a.jsonl' of questions has no choices"),
        (
            ["data.questions={sources=[{source='a.jsonl', template='{answer}: {q}', choices='c', answer='a'}]}"],
            r"template '\{answer\}: \{q\}' of questions must end with \{answer\}",
        ),
        (
            ["data.questions={sources=[{source='a.jsonl', template='{answer}{answer}', choices='c', answer='a'}]}"],
            r"must end with \{answer\}, and have it once",
        ),
        (["data.questions={sources=[]}"], r"data.questions.sources = \[\] should have at least 1 item"),
        (["data.questions={count=3}"], r'"data.questions.sources" is missing'),
    ],
)
def test_qualities_that_do_not_are_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        problem(*overrides)
    assert "\n" not in str(caught.value)
