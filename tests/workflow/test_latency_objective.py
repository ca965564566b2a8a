"""Three and more objectives, latency among them, on the packaged test model."""

from __future__ import annotations

import csv
import json
import sqlite3
from itertools import pairwise
from pathlib import Path

import pytest

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError, ModelError, RunError
from nas_llm.search import History, normalised_hypervolume
from nas_llm.space import LatencyTable
from nas_llm.workflow import export_points, open_run, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=20",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=40",
    "latency.tokens=32",
    "latency.points=3",
    "latency.repeats=2",
)
OBJECTIVES = ("perplexity", "latency", "kv_cache_bytes")


def _problem(*overrides: str, objectives: str = '["perplexity", "latency", "kv_cache"]') -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, f"objectives={objectives}", *overrides])


def _history(run: Path) -> list[tuple[object, ...]]:
    query = "SELECT ordinal, generation, digest, quality, kv_cache_bytes, latency FROM evaluations ORDER BY ordinal"
    return sqlite3.connect(run / "history.sqlite").execute(query).fetchall()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "whole"
    run_search(_problem(), run_dir=directory, shared_cache=False)
    return directory


def test_the_front_is_what_no_evaluation_beats_in_all_three(run: Path) -> None:
    front = open_run(run).front
    assert front.objectives == OBJECTIVES
    with History(run / "history.sqlite", read_only=True) as history:
        rows = list(history.rows())
    values = {row.digest: [row.objectives[name] for name in OBJECTIVES] for row in rows}

    def beaten(mine: list[float]) -> bool:
        return any(all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in values.values())

    unbeaten = {tuple(mine) for mine in values.values() if not beaten(mine)}
    assert {tuple(point.objectives[name] for name in OBJECTIVES) for point in front.points} == unbeaten
    assert front.hypervolume == pytest.approx(
        normalised_hypervolume(list(values.values()), OBJECTIVES, front.dense.objectives)
    )
    assert sum(point.knee for point in front.points) == 1
    best = front.select(max_ratio=0.8)[0]
    assert best.cost.inheriting_ratio <= 0.8


def test_latencies_are_those_of_the_table_that_the_run_keeps(run: Path) -> None:
    table = LatencyTable.from_dict(json.loads((run / "latency.json").read_text(encoding="utf-8")))
    front = open_run(run).front
    for point in (front.dense, *front.points):
        assert point.cost.latency == table(point.genome) == point.objectives["latency"]
        assert point.cost.latency <= table(front.dense.genome)
    front.to_csv(run.parent / "front.csv")
    with (run.parent / "front.csv").open(encoding="utf-8") as file:
        written = [float(row["latency"]) for row in csv.DictReader(file)]
    assert written == [point.cost.latency for point in (front.dense, *front.points)]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert 'id="figure-front"' in page
    assert 'id="figure-front-kv_cache_bytes"' in page
    assert "Predicted latency" in page


def test_a_resumed_run_goes_on_with_its_own_table(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "parts"
    run_search(_problem("search.evaluations=12"), run_dir=directory, shared_cache=False)
    # Whatever the cache holds or a new measurement would say by now.
    table = (run / "latency.json").read_text(encoding="utf-8")
    assert (directory / "latency.json").read_text(encoding="utf-8") == table
    changed = json.loads(table)
    changed["constant"] *= 2.0
    for path in (Path(cache) for cache in _tables()):
        path.write_text(json.dumps(changed), encoding="utf-8")
    try:
        run_search(_problem(), run_dir=directory, resume=True, shared_cache=False)
    finally:
        for path in (Path(cache) for cache in _tables()):
            path.write_text(table, encoding="utf-8")
    assert _history(directory) == _history(run)


def _tables() -> list[str]:
    from nas_llm.cache import cache_dir

    return [str(path) for path in (cache_dir() / "latency").glob("*.json")]


def test_a_run_is_not_resumed_on_another_device_but_its_points_are_exported(run: Path, tmp_path: Path) -> None:
    path = run / "latency.json"
    before = path.read_text(encoding="utf-8")
    elsewhere = json.loads(before)
    elsewhere["settings"]["device"] = "Abacus 9000"
    path.write_text(json.dumps(elsewhere), encoding="utf-8")
    try:
        with pytest.raises(RunError, match=r"fast on Abacus 9000, this device is .*; resume it there or start a new"):
            run_search(_problem("search.evaluations=24"), run_dir=run, resume=True)
        found = open_run(run)
        record, *_ = export_points(found, found.front.select(["knee"]), out=tmp_path / "exports")
        assert record.path.is_dir()
    finally:
        path.write_text(before, encoding="utf-8")
    path.rename(path.with_suffix(".away"))
    try:
        with pytest.raises(RunError, match=r"latency\.json is damaged and cannot be read"):
            run_search(_problem("search.evaluations=24"), run_dir=run, resume=True)
    finally:
        path.with_suffix(".away").rename(path)


def test_four_objectives_and_several_costs_at_once(tmp_path: Path) -> None:
    names = '["kl", "params", "latency", "kv_cache_bytes"]'
    summary = run_search(
        _problem("latency.phase=decode", "latency.context=16", objectives=names), run_dir=tmp_path / "r"
    )
    assert summary.front is not None
    assert summary.front.prices == ("params", "latency", "kv_cache_bytes")
    assert 0.0 < summary.front.hypervolume < 1.0
    prices = [point.cost.macs_per_token for point in summary.front.points]
    assert all(a >= b for a, b in pairwise(prices))


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ('["perplexity", "latencyy"]', r'objectives\[1\] = "latencyy" is not known; did you mean "latency"\?'),
        ('["perplexity", "kv_cach"]', r'did you mean "kv_cache_bytes"\?'),
        ('["perplexity", "kv_cache", "kv_cache_bytes"]', "two different ones"),
    ],
)
def test_unknown_objectives_name_the_nearest_one(objectives: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _problem(objectives=objectives)


@pytest.mark.parametrize(("device", "said"), [("cuda", "asks for CUDA"), ("abacus", "unknown device 'abacus'")])
def test_the_latency_of_a_device_that_is_not_there_is_refused(tmp_path: Path, device: str, said: str) -> None:
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ModelError, match=said):
        run_search(_problem(f"latency.device={device}"), run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_other_runs_have_no_latency(tmp_path: Path) -> None:
    summary = run_search(_problem(objectives='["perplexity", "params"]'), run_dir=tmp_path / "r")
    assert summary.front is not None
    assert summary.front.dense.cost.latency is None
    assert not (tmp_path / "r" / "latency.json").exists()
    assert {row[-1] for row in _history(tmp_path / "r")} == {None}
    assert "Predicted latency" not in (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
