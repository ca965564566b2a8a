from __future__ import annotations

import pytest

from nas_llm.config import LatencySection, Problem, load_problem, template_fields
from nas_llm.errors import ConfigError


def sources(entry: str) -> Problem:
    return load_problem("tiny-llama", overrides=[f"data.fitness.sources=[{{source = 'self'}}, {entry}]"]).problem


def test_names_in_braces_are_found_in_order() -> None:
    assert template_fields("Q: {question}\n{{A}}: {choices.text}") == ("question", "choices.text")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{source = 'a.jsonl', template = 'no column'}", "template 'no column' names no column"),
        ("{source = 'a.jsonl', template = '{q'}", "template '{q' is malformed"),
        ("{source = 'a.jsonl', template = '{q!r}'}", "may hold plain names of columns in braces"),
        ("{source = 'a.jsonl', template = '{q}', column = 'body'}", "give column .* or template .*, not both"),
        ("{source = 'a.jsonl', template = '{q}', answer = 'key'}", "choices .* and answer .* go together"),
        ("{source = 'a.jsonl', template = '{q}', labels = 'l'}", "labels are those of choices"),
        ("{source = 'a.jsonl', answer = 'key'}", "answer is for sources with a template"),
        ("{source = 'self', template = '{q}'}", "which the model's own text has not"),
        ("{source = 'a.jsonl', tempalte = '{q}'}", r"did you mean \"data.fitness.sources\[1\].template\"\?"),
    ],
)
def test_sources_that_make_no_sense_are_one_line_that_says_where(entry: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        sources(entry)
    assert "data.fitness.sources[1]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kv_cache_is_short_for_its_bytes_and_latency_has_a_length() -> None:
    problem = load_problem("tiny-llama", overrides=["objectives=['kl', 'kv_cache', 'latency']"]).problem
    assert problem.objectives == ("kl", "kv_cache_bytes", "latency")
    assert LatencySection(tokens=7, context=9).length == 7
    assert LatencySection(phase="decode", tokens=7, context=9).length == 9
