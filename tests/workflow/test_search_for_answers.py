"""Searches whose fitness looks at answers, from a problem file to a front; stopped and resumed to the same end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from local_tasks import write_tasks

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import RunError
from nas_llm.events import CandidateEvaluated, Event, StageFinished, ignore
from nas_llm.search import History
from nas_llm.session import prepare
from nas_llm.space import Genome
from nas_llm.workflow import open_run, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=14",
    "search.target_ratios=[0.7]",
    "search.descent={looks=2, tokens=256, step_ratio=0.1}",
    "space.min_attn_layers=2",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=3",
)
TERMS = "fitness.terms={kl=1.0, margin=0.5}"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("rows") / "tasks") / "made_up.jsonl"


def problem(rows: Path, *overrides: str, count: int = 6) -> LoadedProblem:
    source = f"source='{rows}', template='Question: {{goal}}\\nAnswer: {{answer}}', choices='choices', answer='label'"
    questions = f"data.questions={{count={count}, tokens=2000, sources=[{{{source}}}]}}"
    return load_problem("tiny-llama", overrides=[*SMALL, questions, *overrides])


def priced(run: Path) -> list[tuple[str, float]]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [(row.digest, next(iter(row.objectives.values()))) for row in history.rows()]


@pytest.fixture(scope="module")
def run(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    directory, events = tmp_path_factory.mktemp("runs") / "whole", list[Event]()
    loaded = problem(rows, "objectives=['fitness', 'macs_per_token']", TERMS)
    run_search(loaded, run_dir=directory, on_event=events.append, shared_cache=False)
    return directory, events


def test_a_front_has_the_sum_and_says_what_was_asked(run: tuple[Path, list[Event]]) -> None:
    directory, events = run
    front = open_run(directory).front
    assert front.quality == "fitness"
    assert front.data["questions"]["questions"] == 6
    assert len({point.objectives["fitness"] for point in [front.dense, *front.points]}) == len(front.points) + 1
    assert any(isinstance(event, StageFinished) and "; 6 questions, " in event.detail for event in events)
    assert any(isinstance(event, StageFinished) and "fitness at ratio 0.70" in event.detail for event in events)


def test_values_are_the_sum_of_the_terms(run: tuple[Path, list[Event]], rows: Path) -> None:
    loaded = problem(rows, "objectives=['fitness', 'macs_per_token']", TERMS)
    prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore)
    dense = Genome.dense(prepared.dense.architecture, prepared.space.layout)
    kl, margin = (
        prepared.evaluator(prepared.splits.fitness, metric=metric).evaluate([dense])[0] for metric in ("kl", "margin")
    )
    found = open_run(run[0]).front.dense.objectives["fitness"]
    assert found == pytest.approx(kl + 0.5 * margin, rel=1e-6)


def test_a_stopped_search_goes_on_to_the_same_end(run: tuple[Path, list[Event]], rows: Path, tmp_path: Path) -> None:
    loaded = problem(rows, "objectives=['fitness', 'macs_per_token']", TERMS)
    done: list[Event] = []

    def stop() -> bool:
        return sum(isinstance(event, CandidateEvaluated) for event in done) >= 10

    summary = run_search(loaded, run_dir=tmp_path / "r", on_event=done.append, should_stop=stop, shared_cache=False)
    assert summary.interrupted
    run_search(loaded, run_dir=tmp_path / "r", resume=True, shared_cache=False)
    assert priced(tmp_path / "r") == priced(run[0])


def test_other_questions_are_another_run(rows: Path, tmp_path: Path) -> None:
    copied = tmp_path / "rows.jsonl"
    copied.write_text(rows.read_text(encoding="utf-8"), encoding="utf-8")
    loaded = problem(copied, "objectives=['margin', 'params']", "search.descent.looks=0")
    run_search(loaded, run_dir=tmp_path / "r", should_stop=lambda: (tmp_path / "r" / "problem.toml").is_file())
    changed = [json.loads(line) for line in copied.read_text(encoding="utf-8").splitlines()]
    changed[0]["label"] = 1 - changed[0]["label"]
    copied.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    with pytest.raises(RunError, match="started with other questions text"):
        run_search(loaded, run_dir=tmp_path / "r", resume=True)


def test_margin_alone_is_an_objective(rows: Path, tmp_path: Path) -> None:
    loaded = problem(rows, "objectives=['margin', 'params']", "search.descent.looks=0", count=4)
    run_search(loaded, run_dir=tmp_path / "r", shared_cache=False)
    front = open_run(tmp_path / "r").front
    assert front.quality == "margin"
    assert front.record("margin").show(front.dense.objectives["margin"]).count(".") == 1
