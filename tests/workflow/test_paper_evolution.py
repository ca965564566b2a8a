"""The paper's evolution on the packaged test model: a whole run, stopped and resumed, and a study of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_studies import SMALL as SMALL_STUDY
from small_studies import small_study

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError
from nas_llm.events import CandidateEvaluated, Event
from nas_llm.search import History
from nas_llm.studies import run_study
from nas_llm.workflow import open_run, run_search

PAPER = (
    "search.algorithm=paper",
    "search.target_ratios=[0.7]",
    "search.population=10",
    'search.operators.mutations=["depth", "ratio", {use="mask", literal=true, tries=20}]',
)
SMALL = (
    *PAPER,
    "search.evaluations=24",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
)


def _problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, *overrides])


def _priced(run: Path) -> list[tuple[int, str, float]]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [(row.generation, row.digest, row.objectives["perplexity"]) for row in history.rows()]


def test_a_run_ends_with_the_best_point_in_the_window_stopped_or_not(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_search(_problem(), run_dir=whole, shared_cache=False)
    told: list[Event] = []
    summary = run_search(
        _problem(),
        run_dir=parts,
        shared_cache=False,
        on_event=told.append,
        should_stop=lambda: sum(isinstance(event, CandidateEvaluated) for event in told) >= 13,
    )
    assert summary.interrupted
    run_search(_problem(), run_dir=parts, resume=True, shared_cache=False)
    assert _priced(parts) == _priced(whole)
    assert (parts / "front.json").read_text() == (whole / "front.json").read_text()
    points = open_run(whole).front.points
    best = min(_priced(whole), key=lambda row: row[2])
    assert best[1] in {point.genome.digest() for point in points}
    assert all(0.65 < point.cost.inheriting_ratio <= 0.7 for point in points)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.algorithm_args.strong=-1", "strong = -1 should be a whole number, 0 or more"),
        ("search.target_ratios=[0.8, 0.6]", "searches at one ratio"),
        ("search.target_ratios=[]", "without an upper bound it ends at the dense model"),
    ],
)
def test_what_it_cannot_begin_with_is_refused_first(override: str, message: str, tmp_path: Path) -> None:
    told: list[Event] = []
    with pytest.raises(ConfigError, match=message):
        run_search(_problem(override), run_dir=tmp_path / "run", on_event=told.append)
    assert told == []
    assert not (tmp_path / "run").exists()


def test_a_study_takes_it(tmp_path: Path) -> None:
    """Also where another algorithm, the baseline's, has no use for its arguments."""
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")
    parameters = {
        "search.algorithm_args.parents": {"low": 2, "high": 6},
        "search.algorithm_args.mask_probability": {"low": 0.0, "high": 1.0},
    }
    study = small_study(
        set=[*SMALL_STUDY, *PAPER, "search.algorithm_args.strong=3"], parameters=parameters, trials=4, evaluations=16
    )
    summary = run_study(study, storage=tmp_path / "j")
    assert [trial.state for trial in summary.trials] == ["complete"] * 4
    assert all(trial.values[0] > 0.0 for trial in summary.trials)
