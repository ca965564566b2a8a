"""A search takes in what was found before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import RunError
from nas_llm.events import CandidateEvaluated, Event
from nas_llm.search import History
from nas_llm.space import Genome
from nas_llm.workflow import export_points, open_run, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=12",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=4",
)


def _problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, *overrides])


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "earlier"
    run_search(_problem("search.evaluations=24"), run_dir=directory)
    return directory


def _first_population(run: Path) -> list[str]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [row.digest for row in history.rows(up_to=8)]


@pytest.mark.parametrize("form", ["run", "export"])
def test_the_first_population_holds_the_points_of_a_run_or_an_export(tmp_path: Path, earlier: Path, form: str) -> None:
    source, points = earlier, open_run(earlier).front.points
    if form == "export":
        run = open_run(earlier)
        points = points[1:2]
        export_points(run, points, out=tmp_path / "exports")
        source = tmp_path / "exports"
    run_search(_problem(f"search.start_from=['{source}']", "seed=7"), run_dir=tmp_path / "next")
    assert {point.genome.digest() for point in points} <= set(_first_population(tmp_path / "next"))


def test_points_outside_of_the_new_constraints_are_repaired(tmp_path: Path, earlier: Path) -> None:
    run_search(_problem(f"search.start_from=['{earlier}']", "constraints.max_ratio=0.7"), run_dir=tmp_path / "next")
    with History(tmp_path / "next" / "history.sqlite", read_only=True) as history:
        assert all(row.cost.inheriting_ratio <= 0.7 for row in history.rows())


def test_a_resumed_run_keeps_what_it_started_from(tmp_path: Path, earlier: Path) -> None:
    source = shutil.copytree(earlier, tmp_path / "source")
    problem = _problem(f"search.start_from=['{source}']")
    run_search(problem, run_dir=tmp_path / "whole", shared_cache=False)
    priced: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, CandidateEvaluated):
            priced.append(event)

    stopped = run_search(
        problem,
        run_dir=tmp_path / "cut",
        shared_cache=False,
        on_event=listen,
        should_stop=lambda: len(priced) == 3,
    )
    assert stopped.interrupted
    shutil.rmtree(source)
    run_search(problem, run_dir=tmp_path / "cut", resume=True, shared_cache=False)
    assert _first_population(tmp_path / "cut") == _first_population(tmp_path / "whole")


def test_nothing_to_start_from_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere holds no genomes"):
        run_search(_problem("search.start_from=['nowhere']"), run_dir=tmp_path / "next")
    assert not (tmp_path / "next").exists()


def test_subnets_of_another_model_are_refused(tmp_path: Path, earlier: Path) -> None:
    genome = open_run(earlier).front.points[0].genome
    other = tmp_path / "other"
    other.mkdir()
    (other / "genome.bin").write_bytes(Genome(genome.attn_mask[1:], genome.mlp_mask[1:]).to_bytes())
    with pytest.raises(RunError, match="subnets of another model"):
        run_search(_problem(f"search.start_from=['{other}']"), run_dir=tmp_path / "next")
    assert not (tmp_path / "next").exists()
