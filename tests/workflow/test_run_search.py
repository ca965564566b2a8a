"""The whole way on the packaged test model: search, resume, export, measure."""

from __future__ import annotations

import csv
import json
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nas_llm.cache import cache_dir
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError, ExportError, RunError, SpaceError
from nas_llm.evaluation import count_block_params, load_any
from nas_llm.events import Event, GenerationFinished, Notice, StageAdvanced, StageStarted
from nas_llm.finishing._settings import with_reconstruction
from nas_llm.search import History
from nas_llm.workflow import Run, evaluate_models, export_points, open_run, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=24",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=5",
)


def _problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, *overrides])


def _history(run: Path) -> list[tuple[object, ...]]:
    """Everything but the seconds, in order."""
    query = (
        "SELECT ordinal, generation, digest, genome, quality, block_params, params, macs_per_token, kv_cache_bytes, "
        "inheriting_ratio FROM evaluations ORDER BY ordinal"
    )
    return sqlite3.connect(run / "history.sqlite").execute(query).fetchall()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; the shared cache is off so that others price for themselves."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    summary = run_search(_problem(), run_dir=directory, shared_cache=False)
    assert not summary.interrupted
    assert summary.evaluations == 24
    return directory


@pytest.fixture(scope="module")
def opened(run: Path) -> Run:
    return open_run(run)


def test_the_front_is_non_dominated_and_scored_on_text_the_search_never_saw(opened: Run) -> None:
    front = opened.front
    assert 2 <= len(front.points) <= 5
    for point in front.points:
        assert point.held_out_perplexity is not None
        assert point.held_out_perplexity > 1.0
        assert point.cost.inheriting_ratio >= 0.4
        for other in front.points:
            better = [other.objectives[name] <= point.objectives[name] for name in front.objectives]
            assert other is point or not all(better)
    assert front.data["fitness"]["digest"] != front.data["held_out"]["digest"]
    assert sum(point.knee for point in front.points) == 1
    assert front.dense.held_out_perplexity is not None
    assert max(point.held_out_perplexity or 0 for point in front.points) > 1.02 * front.dense.held_out_perplexity


def test_the_run_directory_holds_what_the_documentation_says(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"problem.toml", "history.sqlite", "checkpoint", "front.json", "report.html"} <= names
    assert "tiny-llama" in (run / "report.html").read_text(encoding="utf-8")
    with History(run / "history.sqlite", read_only=True) as history:
        assert [row.ordinal for row in history.rows()] == list(range(1, 25))


def test_the_same_seed_gives_the_same_run_and_another_does_not(run: Path, tmp_path: Path) -> None:
    run_search(_problem(), run_dir=tmp_path / "same", shared_cache=False)
    assert _history(tmp_path / "same") == _history(run)
    assert json.loads((tmp_path / "same" / "front.json").read_text()) == json.loads((run / "front.json").read_text())
    run_search(_problem("seed=1"), run_dir=tmp_path / "other")
    assert _history(tmp_path / "other") != _history(run)


def _cli(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", "from nas_llm.cli import main; main()", *map(str, arguments)]


def _search_command(directory: Path, *extra: str) -> list[str]:
    settings = [word for override in SMALL for word in ("--set", override)]
    return _cli("search", "tiny-llama", "--run", directory, *settings, *extra)


def test_a_run_killed_three_times_ends_as_the_unbroken_one(tmp_path: Path) -> None:
    # Long enough that a kill at one of the first sixty rows always finds the search at work.
    whole, directory, rng = tmp_path / "whole", tmp_path / "broken", random.Random(5)
    longer = "search.evaluations=100"
    run_search(_problem(longer), run_dir=whole, shared_cache=False)
    command = [*_search_command(directory), "--set", longer]
    for _ in range(3):
        extra = ["--resume"] if (directory / "problem.toml").is_file() else []
        process = subprocess.Popen([*command, *extra], stdout=subprocess.DEVNULL)
        until = len(_rows(directory)) + rng.randint(1, 20)
        deadline = time.monotonic() + 120
        while len(_rows(directory)) < until and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert len(_rows(directory)) >= until
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL)
    assert _history(directory) == _history(whole)
    assert json.loads((directory / "front.json").read_text()) == json.loads((whole / "front.json").read_text())


def _rows(directory: Path) -> Sequence[object]:
    try:
        # Read-only: looking must not make the file that the search is about to make.
        database = sqlite3.connect(f"file:{directory / 'history.sqlite'}?mode=ro", uri=True)
        return database.execute("SELECT ordinal FROM evaluations").fetchall()
    except sqlite3.Error:
        return ()


def test_ten_is_five_and_five_more(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_search(_problem("search.evaluations=20"), run_dir=whole)
    run_search(_problem("search.evaluations=12"), run_dir=parts)
    run_search(_problem("search.evaluations=20"), run_dir=parts, resume=True)
    assert _history(parts) == _history(whole)


def test_stopping_keeps_what_was_evaluated(run: Path, tmp_path: Path) -> None:
    done: list[Event] = []

    def stop() -> bool:
        return any(isinstance(event, GenerationFinished) for event in done)

    summary = run_search(_problem(), run_dir=tmp_path / "r", on_event=done.append, should_stop=stop)
    assert summary.interrupted
    assert summary.front is None
    assert 8 <= summary.evaluations < 24
    with pytest.raises(RunError, match="no front yet"):
        open_run(tmp_path / "r")
    run_search(_problem(), run_dir=tmp_path / "r", resume=True)
    assert _history(tmp_path / "r") == _history(run)


def test_a_corrupt_checkpoint_falls_back_and_says_so(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "r"
    shutil.copytree(run, directory)
    checkpoints = sorted((directory / "checkpoint").glob("*.ckpt"))
    checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:-10] + b"0123456789")
    told: list[Event] = []
    run_search(_problem(), run_dir=directory, resume=True, on_event=told.append)
    assert any(isinstance(event, Notice) and "checkpoint" in event.message for event in told)
    assert _history(directory) == _history(run)


def test_a_run_resumes_with_the_scores_that_it_began_with(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "r"
    run_search(_problem("search.evaluations=12"), run_dir=directory)
    shutil.rmtree(cache_dir() / "calibration")
    run_search(_problem(), run_dir=directory, resume=True)
    assert _history(directory) == _history(run)
    scores = directory / "checkpoint" / "scores.npz"
    scores.write_bytes(scores.read_bytes()[:100])
    with pytest.raises(RunError, match=r"scores\.npz"):
        run_search(_problem("search.evaluations=30"), run_dir=directory, resume=True)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=3", "seed"),
        ("space.mlp_ratio=[0.5, 1.0]", "space.mlp_ratio"),
        ("data.fitness.tokens=384", "data.fitness.tokens"),
        ("search.population=6", "search.population"),
    ],
)
def test_a_changed_problem_is_not_resumed(run: Path, override: str, message: str) -> None:
    with pytest.raises(RunError, match=f"another problem.*{message}"):
        run_search(_problem(override), run_dir=run, resume=True)


def test_a_changed_text_or_model_is_not_resumed(tmp_path: Path) -> None:
    sample = load_problem("tiny-llama").path.parents[1] / "nas_llm" / "data" / "samples" / "tiny-llama.jsonl"
    lines = sample.read_text(encoding="utf-8").splitlines(keepends=True)
    text, model = tmp_path / "text.jsonl", tmp_path / "model"
    text.write_text("".join(lines), encoding="utf-8")
    shutil.copytree(sample.parents[2] / "models" / "packaged" / "tiny-llama", model)
    source = json.dumps([{"source": str(text)}]).replace(":", "=").replace('"source"', "source")
    overrides = [f"data.{split}.sources={source}" for split in ("calibration", "fitness", "held_out")]
    problem = _problem(f'model.source="{model}"', *overrides, "search.evaluations=8")
    run_search(problem, run_dir=tmp_path / "r")
    text.write_text("".join(reversed(lines)), encoding="utf-8")
    with pytest.raises(RunError, match="other calibration text"):
        run_search(problem, run_dir=tmp_path / "r", resume=True)
    text.write_text("".join(lines), encoding="utf-8")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(RunError, match="model revision"):
        run_search(problem, run_dir=tmp_path / "r", resume=True)


def test_an_existing_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RunError, match="not an empty directory"):
        run_search(_problem(), run_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_constraint_that_nothing_meets_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="max_params"):
        run_search(_problem("constraints.max_params=10"), run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_directory_in_use_is_refused(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "r"
    shutil.copytree(run, directory)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from nas_llm.search import RunLock\n"
            "with RunLock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)",
            str(directory),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(RunError, match=f"in use by process {holder.pid}"):
            run_search(_problem(), run_dir=directory, resume=True)
    finally:
        holder.kill()
        holder.wait()
    run_search(_problem(), run_dir=directory, resume=True)


def test_exports_are_finished_measured_and_what_the_front_promised(opened: Run, tmp_path: Path) -> None:
    points = opened.front.select(["knee", "smallest"])
    # What candidates are priced after; the default finish goes on from there.
    opened = with_reconstruction(opened, method="closed_form")
    records = export_points(opened, points, out=tmp_path / "out")
    assert [record.path for record in records] == [tmp_path / "out" / point.id / "hf" for point in points]
    for record in records:
        # The problem prices reconstructed weights, so an export is what the search saw, up to float32 solves.
        assert record.held_out_perplexity == pytest.approx(record.point.held_out_perplexity, rel=1e-3)
        assert record.fitness_perplexity == pytest.approx(record.point.fitness_perplexity, rel=1e-3)
        model, _ = load_any(str(record.path))
        assert count_block_params(model) == record.cost.block_params
        with (record.path.parent / "reconstruction.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert all(float(row["residual_after"]) <= float(row["residual_before"]) for row in rows)
    with pytest.raises(ExportError, match="exists"):
        export_points(opened, points, out=tmp_path / "out", dtype="float32")
    kept = export_points(opened, points, out=tmp_path / "out")
    assert all(record.already for record in kept)
    replaced = export_points(opened, points[:1], out=tmp_path / "out", dtype="float32", force=True)[0]
    assert load_any(str(replaced.path), dtype=None)[0].dtype == torch.float32


def test_reconstruction_pays(opened: Run, run: Path, tmp_path: Path) -> None:
    point = opened.front.select(["smallest"])
    plain = Run(
        directory=run,
        problem=opened.problem.model_copy(
            update={"reconstruction": opened.problem.reconstruction.model_copy(update={"method": "none"})}
        ),
        front=opened.front,
    )
    finished = export_points(opened, point, out=tmp_path / "a")[0]
    inherited = export_points(plain, point, out=tmp_path / "b")[0]
    assert finished.held_out_perplexity is not None
    assert inherited.held_out_perplexity is not None
    assert finished.held_out_perplexity < inherited.held_out_perplexity


def test_unknown_formats_and_empty_choices_are_refused(opened: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown export format 'onnx'; formats are hf"):
        export_points(opened, opened.front.select(["knee"]), out=tmp_path, formats=["onnx"])
    with pytest.raises(ConfigError, match="nothing to export"):
        export_points(opened, [], out=tmp_path)


def test_models_are_measured_side_by_side(opened: Run, tmp_path: Path) -> None:
    record = export_points(opened, opened.front.select(["smallest"]), out=tmp_path)[0]
    dense, export = evaluate_models(["tiny-llama", str(record.path)], window=128, windows=4, base="tiny-llama")
    assert dense.inheriting_ratio == 1.0
    assert export.inheriting_ratio == pytest.approx(record.cost.inheriting_ratio)
    assert (export.params, export.macs_per_token) == (record.cost.params, record.cost.macs_per_token)
    assert dense.perplexity is not None
    assert export.perplexity is not None
    assert export.perplexity > dense.perplexity
    score = dense.texts[0]
    assert (score.windows, score.tokens) == (4, 512)
    alone = evaluate_models([str(record.path)], text=score.text, window=128, windows=4, base="tiny-llama")[0]
    assert alone == export


def test_kl_and_three_objectives_work_to_the_end(tmp_path: Path) -> None:
    problem = _problem('objectives=["kl", "macs_per_token", "kv_cache_bytes"]', 'search.algorithm="nsga3"')
    summary = run_search(problem, run_dir=tmp_path / "r")
    assert summary.front is not None
    for point in summary.front.points:
        assert set(point.objectives) == {"kl", "macs_per_token", "kv_cache_bytes"}
        assert point.fitness_perplexity is not None


def test_text_is_sampled_where_none_ships(tmp_path: Path) -> None:
    told: list[Event] = []
    problem = _problem("data.self_sample.document_tokens=64", "search.evaluations=8")
    first = run_search(problem, run_dir=tmp_path / "a", on_event=told.append).front
    assert any(isinstance(event, StageStarted) and event.stage == "sampling" for event in told)
    told.clear()
    again = run_search(problem, run_dir=tmp_path / "b", on_event=told.append).front
    assert not any(isinstance(event, StageAdvanced) and event.stage == "sampling" for event in told)
    assert first is not None
    assert again is not None
    assert first.to_json() == again.to_json()


def test_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no run: it has no problem\.toml"):
        open_run(tmp_path)


def test_a_damaged_definition_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "problem.toml").write_text("name = [")
    with pytest.raises(RunError, match=r"problem\.toml is damaged"):
        open_run(tmp_path)
