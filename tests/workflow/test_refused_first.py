"""What no search could begin with is refused before a model is loaded and before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_studies import SMALL, small_study

from nas_llm.config import load_problem
from nas_llm.errors import ConfigError, RunError
from nas_llm.events import Event
from nas_llm.studies import run_study
from nas_llm.workflow import run_search

FAULTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("search.algorithm=nsga22",), r"search.algorithm 'nsga22' is unknown; did you mean nsga2"),
    (("search.algorithm_args.n_offspring=4",), r"algorithm_args.n_offspring is unknown for nsga2; known are n_offspr"),
    (("search.algorithm_args.n_offsprings=0",), r"algorithm_args.n_offsprings = 0 should be a whole number above 0"),
    (("search.algorithm_args.n_offsprings=two",), r"n_offsprings = 'two' should be a whole number above 0"),
    (("search.algorithm_args.n_offsprings=2.5",), r"n_offsprings = 2.5 should be a whole number above 0"),
    (("search.algorithm_args.n_offsprings=true",), r"n_offsprings = True should be a whole number above 0"),
    (("search.algorithm=rvea", "search.algorithm_args.alpha=nan"), r"alpha = nan should be a number above 0"),
    (("search.algorithm=sms", "search.algorithm_args.normalize=1"), r"normalize = 1 should be true or false"),
)


@pytest.mark.parametrize(("overrides", "message"), FAULTS)
def test_an_algorithm_that_cannot_be(overrides: tuple[str, ...], message: str, tmp_path: Path) -> None:
    told: list[Event] = []
    loaded = load_problem("tiny-llama", overrides=[*SMALL, *overrides])
    with pytest.raises(ConfigError, match=message):
        run_search(loaded, run_dir=tmp_path / "run", on_event=told.append)
    assert told == []
    assert not (tmp_path / "run").exists()


def test_a_run_is_what_it_was_and_can_be_resumed_afterwards(tmp_path: Path) -> None:
    small = [*SMALL, "search.population=4", "search.evaluations=12"]

    def search(*overrides: str, **options: Any) -> int:
        loaded = load_problem("tiny-llama", overrides=[*small, *overrides])
        return run_search(loaded, run_dir=tmp_path / "run", **options).evaluations

    asked = iter([False] * 20)
    assert search(should_stop=lambda: next(asked, True)) < 12
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.toml")}
    with pytest.raises(ConfigError, match="'nsga22' is unknown"):
        search("search.algorithm=nsga22", resume=True)
    with pytest.raises(RunError, match="was started with another problem: search.algorithm"):
        search("search.algorithm=nsga3", resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.toml")} == before
    assert search(resume=True) == 12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": [*SMALL, "search.algorithm=nsga22"]}, "'nsga22' is unknown"),
        ({"set": [*SMALL, "search.algorithm_args.n_offsprings=0"]}, "n_offsprings = 0 should be a whole number"),
        ({"parameters": {"search.algorithm": {"choices": ["nsga2", "nsga33"]}}}, "'nsga33' is unknown"),
    ],
)
def test_a_study_of_an_algorithm_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")
    told: list[Event] = []
    with pytest.raises(ConfigError, match=message):
        run_study(small_study(**changes), storage=tmp_path / "j", on_event=told.append)
    assert told == []
    assert not (tmp_path / "j").exists()
