from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_studies import small_study

from nas_llm.config import OperatorSection, Problem, SearchSection, load_problem
from nas_llm.errors import ConfigError, NasLlmError
from nas_llm.studies import StudyDefinition, list_studies, load_study, paper_settings, tunable_keys, with_settings
from nas_llm.studies._samplers import build_pruner, build_sampler
from nas_llm.studies._slots import baseline_params

Write = Callable[..., Path]
RANGE = "search.population = { low = 4, high = 8 }"


@pytest.mark.parametrize("name", [entry.name for entry in list_studies()])
def test_packaged_studies_are_valid_and_tune_what_there_is(name: str) -> None:
    loaded = load_study(name)
    assert loaded.definition.name == name
    assert loaded.definition.description
    build_sampler(loaded.definition)
    build_pruner(loaded.definition)
    for setting in ("paper", "default"):
        assert set(baseline_params(loaded, setting)) == set(loaded.definition.parameters)


def test_every_operator_can_be_tuned() -> None:
    keys = tunable_keys()
    assert {f"search.operators.{name}" for name in OperatorSection.model_fields} <= set(keys)
    assert {"search.population", "search.algorithm", "fitness.racing", "data.fitness.tokens"} <= set(keys)
    assert not {"search.evaluations", "search.start_from", "model.source"} & set(keys)


@pytest.mark.parametrize(
    "text", [RANGE, '"search.population" = { low = 4, high = 8 }', "[parameters.search.population]\nlow = 4\nhigh = 8"]
)
def test_keys_may_be_dotted_quoted_or_tables(definition_file: Write, text: str) -> None:
    assert list(load_study(definition_file(text)).definition.parameters) == ["search.population"]


@pytest.mark.parametrize(
    ("parameters", "head", "expected"),
    [
        (
            "search.popluation = { low = 4, high = 8 }",
            "",
            'unknown hyperparameter "search.popluation"; did you mean "search.population"?',
        ),
        ("search.operators.alpa = { low = 0, high = 1 }", "", 'did you mean "search.operators.alpha"?'),
        ("alpha = { low = 0.0, high = 1.0 }", "", 'did you mean "search.operators.alpha"?'),
        ("search.evaluations = { low = 4, high = 8 }", "", 'unknown hyperparameter "search.evaluations"'),
        (
            "search.population = { low = 8, high = 4 }",
            "",
            "parameters.search.population has an empty range: low 8 is above high 4",
        ),
        ("search.operators.crossover = { choices = [] }", "", "has an empty range: choices = []"),
        ("search.operators.crossover = { choices = ['uniform', 'two_point'] }", "", "two_point"),
        ("search.operators.crossover = { low = 0, high = 1 }", "", "is a name; give choices"),
        ("search.population = {}", "", "needs low and high, or choices"),
        (
            "search.population = { low = 4, hihg = 8 }",
            "",
            'unknown key "hihg" in parameters.search.population; did you mean "high"?',
        ),
        ("search.population = 4", "", "should be a range such as"),
        ("search.population = { low = 4, high = 40 }", "", "search.evaluations (16) is below search.population (40)"),
        ("search.population = { low = 4.5, high = 8.0 }", "", "is a whole number"),
        ("search.operators.alpha = { low = 0.5, high = 1.5 }", "", "less than or equal to 1"),
        ("search.operators.temperature = { low = 0.0, high = 1.0, log = true }", "", "must begin above 0"),
        ("data.fitness.tokens = { low = 128, high = 4096 }", "", "is more than the problem's own 1024"),
        (RANGE, "evaluation = 3", 'unknown key "evaluation"; did you mean "evaluations"?'),
        (RANGE, "seeds = []", "seeds = [] should have at least 1 item"),
        (RANGE, "seeds = [1, 1]", "seeds must be different"),
        (RANGE, 'objectives = ["seconds"]', "objectives must be"),
        (RANGE, 'set = ["search.populaton=3"]', 'did you mean "search.population"?'),
    ],
)
def test_faults_are_one_line(definition_file: Write, parameters: str, head: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_study(definition_file(parameters, head))
    assert expected in str(caught.value)
    assert str(caught.value).count("mine.toml: ") == 1
    assert "\n" not in str(caught.value)


def test_a_missing_study_is_named() -> None:
    with pytest.raises(ConfigError, match='study "tiny-lama" does not exist; did you mean the packaged "tiny-llama"'):
        load_study("tiny-lama")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"sampler": {"name": "tpee"}}, 'sampler "tpee" is unknown; did you mean "tpe"?'),
        ({"sampler": {"name": "tpe", "args": {"multivariat": True}}}, 'did you mean "multivariate"?'),
        (
            {"sampler": {"name": "grid"}},
            "the grid sampler needs a step for parameters.search.operators.guided_probability",
        ),
        ({"pruner": {"name": "medain"}}, 'pruner "medain" is unknown; did you mean "median"?'),
        ({"pruner": {"name": "median", "args": {"startup": 3}}}, "pruner.args.startup is no argument"),
        ({"pruner": {"name": "percentile", "args": {"percentile": 300.0}}}, "cannot be used with these arguments"),
    ],
)
def test_unknown_samplers_and_pruners_are_named(changes: dict[str, Any], expected: str) -> None:
    definition = small_study(**changes).definition
    build = build_sampler if "sampler" in changes else build_pruner
    with pytest.raises(NasLlmError) as caught:
        build(definition)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "name", ["tpe", "TPESampler", "random", "qmc", "nsgaii", "NSGAIIISampler", "brute_force", "gp"]
)
def test_samplers_go_by_any_of_their_names(name: str) -> None:
    assert build_sampler(small_study(sampler={"name": name}).definition) is not None


@pytest.mark.parametrize("name", ["none", "nop", "median", "hyperband", "successive_halving", "wilcoxon", "patient"])
def test_pruners_go_by_their_names(name: str) -> None:
    args = {"patience": 2} if name == "patient" else {}
    # With fewer seeds wilcoxon could never prune.
    assert build_pruner(small_study(pruner={"name": name, "args": args}, seeds=range(5)).definition) is not None


def test_the_papers_setting_is_the_papers() -> None:
    problem: Problem = load_problem("tiny-llama", overrides=["search.evaluations=5000"]).problem
    search: SearchSection = with_settings(problem, paper_settings(5000)).search
    operators = search.operators
    assert search.population == 100
    assert (operators.mask_probability, operators.ratio_probability, operators.depth_probability) == (0.3, 0.1, 0.1)
    assert (operators.alpha, operators.guided_probability, operators.temperature) == (0.8, 0.0, float("inf"))
    # A small budget leaves room for generations.
    assert [paper_settings(budget)["search.population"] for budget in (16, 80, 200, 400)] == [8, 20, 50, 100]
    for budget in (4, 16, 80):
        small = with_settings(problem, {"search.population": 4, "search.evaluations": budget})
        assert with_settings(small, paper_settings(budget)).search.population <= budget


def test_steps_are_numbers_of_evaluations_and_end_with_the_budget() -> None:
    assert small_study().definition.steps == (2, 4, 6, 8, 10, 12, 14, 16)
    assert small_study(report_every=5).definition.steps == (5, 10, 15, 16)
    assert small_study(report_every=99).definition.steps == (16,)


def test_every_key_is_described_and_nothing_else() -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    table = text.partition("### The definition")[2].partition("\n\nParameters may")[0]
    described = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    assert described == list(StudyDefinition.model_fields)
