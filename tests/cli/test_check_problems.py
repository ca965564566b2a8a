"""``nas-llm problems --check``, and how the list shows many problems."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import Outcome

from nas_llm.cli.commands._problems import listed
from nas_llm.config import PackagedProblem

Command = Callable[..., Outcome]


def test_the_list_has_a_line_for_each_model_of_the_paper(run: Command) -> None:
    lines = [line.split() for line in run("problems").out.splitlines()]
    # Those of the paper share a line a model.
    assert len(lines) == 3 + 9 + 18
    assert ["paper/llama-7b-{r50,r60,r70,r80,r90}", "LLaMA-7B"] in [line[:2] for line in lines]


def test_neighbours_with_one_description_share_a_line() -> None:
    names = ["a-1", "a-2", "b-1", "c", "c-1", "c-2"]
    entries = [PackagedProblem(name, name[0], Path()) for name in names]
    assert list(listed(entries)) == [("a-{1,2}", "a"), ("b-1", "b"), ("c", "c"), ("c-{1,2}", "c")]


def test_problems_are_checked_side_by_side(run: Command) -> None:
    outcome = run("problems", "--check", "paper/llama-7b-r80", "tiny-llama")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = {line.split()[0]: line.split() for line in outcome.out.splitlines() if line.strip()}
    assert lines["paper/llama-7b-r80"][1:5] == ["6,738,415,616", "7.14G", "0.790-0.800", "5.38G-5.44G"]
    assert "5,000" in lines["paper/llama-7b-r80"]
    assert lines["tiny-llama"][1] == "707,808"
    assert "estimate for a whole search" in outcome.out
    assert "as measured now" in outcome.out


def test_bad_problems_are_a_line_each_and_the_others_are_shown(run: Command, workplace: Path) -> None:
    (workplace / "typo.toml").write_text('name = "x"\nmodel.sorce = "tiny-llama"\n', encoding="utf-8")
    (workplace / "far.toml").write_text('name = "x"\nmodel.source = "someone/model"\n', encoding="utf-8")
    outcome = run("problems", "--check", "nix", "typo.toml", "far.toml", "tiny-llama", "tiny-llama")
    assert outcome.code == 2
    assert outcome.out.count("tiny-llama") == 1
    errors = outcome.err.splitlines()
    assert len(errors) == 3
    assert errors[0].startswith('error: problem "nix" does not exist; packaged are smollm2-135m, ')
    assert errors[0].endswith("tiny-llama, 18 in models/, 45 in paper/ (see nas-llm problems)")
    assert errors[1].startswith("error: typo.toml: ")
    assert errors[1].endswith('unknown key "model.sorce"; did you mean "model.source"?')
    assert errors[2].startswith("error: far.toml: the sizes of model 'someone/model' are not known without the network")


def test_only_bad_problems_give_no_table(run: Command) -> None:
    outcome = run("problems", "--check", "nix")
    assert (outcome.code, outcome.out) == (2, "")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a", "b"), "one problem is shown at a time, got a, b; name one, or add --check"),
        (("--check", "--resolved"), "--check measures and --resolved shows; give one of them"),
        (("paper/llama-7b-r85",), 'did you mean the packaged "paper/llama-7b-r80"?'),
    ],
)
def test_words_that_do_not_go_together_are_refused(run: Command, arguments: tuple[str, ...], said: str) -> None:
    outcome = run("problems", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
