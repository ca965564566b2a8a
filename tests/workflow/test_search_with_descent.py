"""A search that begins with a descent: kept step by step, and the same after being stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import RunError
from nas_llm.events import Event, StageAdvanced, StageFinished, StageStarted
from nas_llm.search import History
from nas_llm.space import Genome
from nas_llm.workflow import run_search

SMALL = (
    "search.population=8",
    "search.evaluations=12",
    "search.target_ratios=[0.8, 0.6]",
    "search.descent={looks=2, tokens=256, step_ratio=0.1}",
    "space.min_attn_layers=2",
    'fitness.weights="reconstructed"',
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=4",
)


def _problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, *overrides])


def _steps(run: Path) -> list[dict[str, object]]:
    steps: list[dict[str, object]] = json.loads((run / "checkpoint" / "descent.json").read_text())
    return steps


def _priced(run: Path) -> list[tuple[str, float]]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [(row.digest, next(iter(row.objectives.values()))) for row in history.rows()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    directory, events = tmp_path_factory.mktemp("runs") / "whole", list[Event]()
    run_search(_problem(), run_dir=directory, on_event=events.append, shared_cache=False)
    return directory, events


def test_what_the_descent_found_begins_the_search(run: tuple[Path, list[Event]]) -> None:
    directory, events = run
    steps = _steps(directory)
    assert [step["target"] for step in steps] == [0.8] * 4 + [0.6] * 4
    priced = dict(_priced(directory))
    for step in (steps[3], steps[7]):
        digest = Genome.from_bytes(bytes.fromhex(str(step["genome"]))).digest()
        assert priced[digest] == pytest.approx(step["quality"], rel=1e-6)
    stages = [event.stage for event in events if isinstance(event, StageStarted | StageFinished)]
    assert stages.index("calibration") < stages.index("descent") < stages.index("search")
    assert sum(isinstance(event, StageAdvanced) and event.stage == "descent" for event in events) == len(steps)


@pytest.mark.parametrize("after", [1, 5])
def test_a_stopped_descent_goes_on_where_it_was(run: tuple[Path, list[Event]], tmp_path: Path, after: int) -> None:
    done: list[Event] = []

    def stop() -> bool:
        return sum(isinstance(event, StageAdvanced) and event.stage == "descent" for event in done) >= after

    summary = run_search(_problem(), run_dir=tmp_path / "r", on_event=done.append, should_stop=stop, shared_cache=False)
    assert summary.interrupted
    assert _steps(tmp_path / "r") == _steps(run[0])[:after]
    run_search(_problem(), run_dir=tmp_path / "r", resume=True, shared_cache=False)
    assert _steps(tmp_path / "r") == _steps(run[0])
    assert _priced(tmp_path / "r") == _priced(run[0])


def test_without_targets_five_ratios_are_served(tmp_path: Path) -> None:
    problem = _problem("search.target_ratios=[]", "search.descent.looks=1")
    run_search(problem, run_dir=tmp_path / "r", shared_cache=False)
    assert len({step["target"] for step in _steps(tmp_path / "r")}) == 5


def test_steps_that_cannot_be_read_are_an_error(run: tuple[Path, list[Event]], tmp_path: Path) -> None:
    directory = tmp_path / "r"
    run_search(_problem(), run_dir=directory, should_stop=lambda: (directory / "checkpoint/descent.json").is_file())
    (directory / "checkpoint" / "descent.json").write_text("[{}]")
    with pytest.raises(RunError, match=r"cannot read .*descent\.json"):
        run_search(_problem(), run_dir=directory, resume=True)
