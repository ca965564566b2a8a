"""Workloads from the definition to the command: costs, limits, points of a front."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas_llm.cli import app
from nas_llm.cli.commands._evaluate import workload_of_run
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError, RunError, SelectionError, SpaceError
from nas_llm.evaluation import Workload
from nas_llm.front import workload_limits
from nas_llm.report import evaluation_columns
from nas_llm.search import History
from nas_llm.space import Genome
from nas_llm.workflow import check_problem, evaluate_models, open_run, run_search, run_workload
from nas_llm.workloads import WorkloadTables

SMALL = (
    "search.population=8",
    "search.evaluations=16",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=40",
    "latency.points=3",
    "latency.repeats=2",
)
CHAT = 'name = "chat", prompt = 24, new_tokens = 8, batch = 2, threads = 1'
ALL = '["perplexity", "chat.seconds", "chat.memory"]'


def problem(limits: str = "", objectives: str = ALL, *overrides: str) -> LoadedProblem:
    return load_problem(
        "tiny-llama", overrides=[*SMALL, f"workload=[{{{CHAT}{limits}}}]", f"objectives={objectives}", *overrides]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "whole"
    run_search(problem(), run_dir=directory, shared_cache=False)
    return directory


def rows(run: Path) -> list[dict[str, float]]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [dict(row.objectives) for row in history.rows()]


def test_predictions_are_those_of_the_tables_that_the_run_keeps(run: Path) -> None:
    front, predictor = open_run(run).front, run_workload(run, "chat")
    kept = json.loads((run / "workloads.json").read_text(encoding="utf-8"))
    tables = WorkloadTables.from_dict(kept["chat"])
    assert front.objectives == ("perplexity", "chat.seconds", "chat.memory")
    assert predictor.tables.digest() == tables.digest()
    for point in (front.dense, *front.points):
        assert point.objectives["chat.seconds"] == tables(point.genome) == predictor.seconds(point.genome)
        assert point.objectives["chat.memory"] == predictor.memory(point.genome, point.cost).total
    assert "chat: predicted memory" in (run / "report.html").read_text(encoding="utf-8").lower()
    assert front.record("chat.memory").show(2e9) == "2.0 GB"


def test_every_evaluated_genome_keeps_all_limits(run: Path, tmp_path: Path) -> None:
    front, tables = open_run(run).front, run_workload(run, "chat").tables
    dense = front.dense.cost.further
    smallest = min(row["chat.memory"] for row in rows(run))
    memory = round((dense["chat.memory"] + smallest) / 2)
    # Between what nothing at all and what the dense model takes.
    empty = Genome(~front.dense.genome.attn_mask, ~front.dense.genome.mlp_mask)
    seconds = tables(empty) + 0.9 * (dense["chat.seconds"] - tables(empty))
    directory = tmp_path / "limited"
    run_search(problem(f", max_memory = {memory}, max_seconds = {seconds!r}"), run_dir=directory, shared_cache=False)
    found = rows(directory)
    assert len(found) == 16
    assert max(row["chat.memory"] for row in found) <= memory
    assert max(row["chat.seconds"] for row in found) <= seconds


def test_a_limit_without_an_objective_measures_only_what_it_needs(tmp_path: Path) -> None:
    directory = tmp_path / "memory"
    run_search(problem(', max_memory = "34.5MB"', '["perplexity", "params"]'), run_dir=directory, shared_cache=False)
    assert not (directory / "workloads.json").exists()
    points = open_run(directory).front.points
    assert points
    assert all(point.cost.further["chat.memory"] <= 34.5e6 for point in points)
    assert all("chat.seconds" not in point.cost.further for point in points)


def test_limits_that_nothing_meets_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(
        SpaceError, match=r"workload.chat.max_memory = 1000 cannot be met: the space reaches chat.memory"
    ):
        check_problem(problem(", max_memory = 1000"))
    with pytest.raises(SpaceError, match=r"workload.chat.max_seconds = 1e-07 cannot be met"):
        run_search(problem(", max_seconds = 1e-7"), run_dir=tmp_path / "no", shared_cache=False)
    assert not (tmp_path / "no").exists()
    long = load_problem("tiny-llama", overrides=['workload=[{name="chat", prompt=24, new_tokens=900}]'])
    with pytest.raises(ConfigError, match="workload chat takes 24 prompt and 900 new tokens, the model has 512 positi"):
        check_problem(long)


def test_a_resumed_run_goes_on_with_its_own_times(run: Path, tmp_path: Path) -> None:
    path = run / "workloads.json"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('"device": "', '"device": "Abacus '), encoding="utf-8")
    try:
        with pytest.raises(RunError, match="fast on Abacus .*; resume it there or start a new run"):
            run_search(problem("", ALL, "search.evaluations=20"), run_dir=run, resume=True)
        path.write_text("{}", encoding="utf-8")
        with pytest.raises(RunError, match=r"workloads.json has no times of workload chat; start the search anew"):
            run_search(problem("", ALL, "search.evaluations=20"), run_dir=run, resume=True)
    finally:
        path.write_text(text, encoding="utf-8")


def test_points_are_chosen_by_what_a_workload_takes(run: Path) -> None:
    front, predictor = open_run(run).front, run_workload(run, "chat")
    totals = {point.id: predictor.memory(point.genome, point.cost).total for point in front.points}
    limit = sorted(totals.values())[len(totals) // 2]
    chosen = front.select(["all"], limits=workload_limits(predictor, max_memory=limit))
    assert {point.id for point in chosen} == {name for name, total in totals.items() if total <= limit}
    fastest = min(predictor.seconds(point.genome) for point in chosen)
    both = workload_limits(predictor, max_memory=limit, max_seconds=fastest)
    assert [predictor.seconds(point.genome) for point in front.select(["all"], limits=both)] == [fastest]
    with pytest.raises(SelectionError, match=r"within max_memory 1.0 kB; the smallest there is 3\d.\d MB"):
        front.select(limits=workload_limits(predictor, max_memory=1000))
    with pytest.raises(
        SelectionError, match=r"within max_seconds 1 us; the smallest there is .* among those within max"
    ):
        front.select(limits=workload_limits(predictor, max_memory=limit, max_seconds=1e-6))


def test_any_other_workload_is_predicted_too(run: Path) -> None:
    predictor, dense = run_workload(run, prompt=16, new_tokens=1), open_run(run).front.dense
    assert len(predictor.tables.decode) == 1
    assert predictor.names == ("16x1.memory", "16x1.seconds")
    assert predictor.seconds(dense.genome) < run_workload(run).seconds(dense.genome)
    with pytest.raises(ConfigError, match='there is no workload "caht"; did you mean "chat"'):
        run_workload(run, "caht")
    with pytest.raises(ConfigError, match="which workload is not said; name one of chat, or give the tokens"):
        run_workload(run, prompt=3)
    with pytest.raises(ConfigError, match="workload chat has its numbers from the problem"):
        run_workload(run, "chat", batch=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workload", "caht"], 'there is no workload "caht"; did you mean "chat"? known are chat'),
        (["--max-memory", "2 apples"], "--max-memory '2 apples' is no size; write e.g. 2GB, 500MB or 2000000000"),
        (["--max-memory", "1kB"], "no point of the front lies within max_memory 1.0 kB; the smallest there is 3"),
        (["--max-seconds", "0"], "--max-seconds 0 is no time; write a number above 0, e.g. 1.5"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(run: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["front", str(run), *options])
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.output


def test_the_command_shows_both_predictions(run: Path) -> None:
    options = ["--workload", "chat", "--max-memory", "1GB"]
    done = CliRunner().invoke(app, ["front", str(run), *options], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for said in ("chat.memory", "chat.seconds", "24 prompt and 8 new tokens, batch 2, float32"):
        assert said in done.stdout


def test_what_is_measured_stands_beside_what_was_predicted(run: Path) -> None:
    opened, predictor = open_run(run), run_workload(run, "chat")
    load = Workload(prompt_tokens=24, new_tokens=8, batch=2, rounds=1)
    section = opened.problem.workload[0]
    dense, knee = evaluate_models([str(run)], points=["knee"], latency=True, workload=load, predict=section)
    (point,) = opened.front.select(["knee"])
    for row, genome, cost in (
        (dense, opened.front.dense.genome, opened.front.dense.cost),
        (knee, point.genome, point.cost),
    ):
        assert row.predicted is not None
        assert row.speed is not None
        assert row.predicted.peak_bytes == predictor.memory(genome, cost).total
        assert row.predicted.seconds == predictor.seconds(genome)
        assert row.speed.seconds > row.speed.first_token_seconds > 0.0
    (column,) = [column for column in evaluation_columns([dense, knee]) if column.title == "answer"]
    assert all(re.fullmatch(r".* m?s, predicted .* m?s \([+-]\d+ %\)", cell) for cell in column.cells)
    # A pass of the same kind takes as long again, up to what else the machine does.
    assert 0.1 < dense.predicted.seconds / dense.speed.seconds < 10.0  # type: ignore[union-attr]


def test_a_workload_is_looked_up_in_the_first_run(run: Path) -> None:
    numbers = {"prompt_tokens": 512, "new_tokens": 32, "batch": 1}
    assert workload_of_run("chat", ["tiny-llama", str(run)], numbers).prompt == 24
    with pytest.raises(ConfigError, match='there is no workload "caht"; did you mean "chat"'):
        workload_of_run("caht", [str(run)], numbers)
    with pytest.raises(ConfigError, match="--workload is for runs, and none of tiny-llama is one; give num"):
        workload_of_run("chat", ["tiny-llama"], numbers)
    with pytest.raises(ConfigError, match="workload chat has its numbers from the problem; leave --new-tokens out"):
        workload_of_run("chat", [str(run)], {**numbers, "new_tokens": 3})
