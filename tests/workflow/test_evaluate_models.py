"""Models, exports and points of a run measured by the calls that the command makes, on the packaged test model."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from local_tasks import write_tasks
from typer.testing import CliRunner
from whole_fronts import make_run

from nas_llm.cli import app
from nas_llm.errors import ConfigError, DataError, ModelError, RunError, SelectionError
from nas_llm.evaluation import TaskSuite, Workload, load_any, model_perplexity
from nas_llm.events import Event, StageAdvanced
from nas_llm.session._prepare import prepare
from nas_llm.workflow import Run, evaluate_models, export_points, reconstruct_points

LOAD = Workload(prompt_tokens=24, new_tokens=4, rounds=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    settings = ("reconstruction.method='closed_form'", "model.dtype='float32'")
    return make_run(tmp_path_factory.mktemp("runs") / "made-up", *settings)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "kites.txt"
    path.write_text("A kite is tethered, and it flies because the wind lifts it. " * 80, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("lm-eval") / "tasks")


def test_points_are_what_their_exports_are(run: Run, text: Path, tmp_path: Path) -> None:
    points = run.front.select(["p01", "p03"])
    records = export_points(run, points, out=tmp_path)
    told: list[Event] = []
    rows = evaluate_models(
        [str(run.directory), *(str(record.path) for record in records)],
        points=["p01", "p03"],
        text=text,
        window=64,
        windows=4,
        on_event=told.append,
    )
    dense, *finished, first, second = rows
    assert [row.name for row in rows[:3]] == ["tiny-llama", f"{run.directory}:p01", f"{run.directory}:p03"]
    for point, row, export in zip(points, finished, (first, second), strict=True):
        assert row.texts == export.texts
        assert (row.params, row.block_params, row.macs_per_token) == (
            export.params,
            export.block_params,
            export.macs_per_token,
        )
        assert row.inheriting_ratio == export.inheriting_ratio == pytest.approx(point.cost.inheriting_ratio)
    assert dense.inheriting_ratio == 1.0
    assert (dense.texts[0].windows, dense.texts[0].tokens, dense.texts[0].window) == (4, 256, 64)
    assert any(isinstance(event, StageAdvanced) and event.done == 4 for event in told)
    (alone,) = evaluate_models([str(records[0].path)], text=text, window=64, windows=4)
    assert alone.inheriting_ratio == first.inheriting_ratio


def test_every_point_shows_its_held_out_gap(run: Run, text: Path) -> None:
    dense, point = evaluate_models([str(run.directory)], points=["p02"], text=text, window=64, windows=1)
    assert dense.gap is not None
    assert point.gap is not None
    assert dense.gap.gap == 0.0
    record = reconstruct_points(run, run.front.select(["p02"]))[0]
    assert point.gap.fitness == pytest.approx(record.fitness_perplexity[1], rel=1e-3)
    assert point.gap.held_out == pytest.approx(record.held_out_perplexity[1], rel=1e-3)
    own, model = point.gap.held_out / point.gap.fitness, dense.gap.held_out / dense.gap.fitness
    assert point.gap.gap == pytest.approx(own / model - 1)
    prepared = prepare(run.problem, base_dir=Path(), on_event=lambda event: None)
    windows = prepared.splits.finish
    count = len(prepared.splits.held_out.tokens)
    seen = replace(windows, tokens=windows.tokens[:count])
    assert dense.gap.calibration == pytest.approx(model_perplexity(load_any("tiny-llama")[0], seen))


def test_tasks_of_points_equal_those_of_exports_and_are_kept_apart(
    run: Run, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Answers that another test kept are not this one's.
    monkeypatch.setenv("NAS_LLM_CACHE", str(tmp_path / "cache"))
    record = export_points(run, run.front.select(["p01"]), out=tmp_path / "exports")[0]
    options = {"tasks": ["made_up"], "include_path": tasks}
    dense, point, export = evaluate_models([str(run.directory), str(record.path)], points=["p01"], **options)
    assert point.texts == ()
    assert point.perplexity is None
    assert [(s.metric, s.value) for s in point.tasks] == [(s.metric, s.value) for s in export.tasks]
    direct = TaskSuite(["made_up"], include_path=tasks).run(*load_any("tiny-llama"))
    assert [(s.metric, s.value, s.stderr) for s in dense.tasks] == [(s.metric, s.value, s.stderr) for s in direct]
    assert not any(score.cached for row in (dense, point, export) for score in row.tasks)
    again = evaluate_models([str(run.directory)], points=["p01", "p03"], **options)
    assert [{score.cached for score in row.tasks} for row in again] == [{True}, {True}, {False}]
    other = evaluate_models([str(run.directory)], points=["p01"], method="none", **options)[1]
    assert not any(score.cached for score in other.tasks)


def test_costs_stand_beside_the_dense_models(run: Run, tmp_path: Path) -> None:
    record = export_points(run, run.front.select(["smallest"]), out=tmp_path)[0]
    dense, export = evaluate_models([str(record.path)], latency=True, memory=True, workload=LOAD)
    assert dense.name == "tiny-llama"
    assert dense.speed is not None
    assert export.speed is not None
    assert (dense.speed.prefill_speedup, dense.speed.decode_speedup) == (1.0, 1.0)
    assert export.speed.against == "tiny-llama"
    assert export.speed.decode_tokens_per_second > 0
    assert export.memory is not None
    assert dense.memory is not None
    assert dense.memory.peak_ratio == 1.0
    per_token = record.cost.kv_cache_bytes * 2  # float32, the cost is stated for 16 bit
    assert export.memory.kv_cache_bytes == 28 * per_token
    assert export.memory.kv_cache_ratio == pytest.approx(28 * per_token / dense.memory.kv_cache_bytes)
    [alone] = evaluate_models(["tiny-llama"], latency=True, workload=LOAD, dtype=torch.bfloat16)
    assert alone.speed is not None
    assert (alone.speed.dtype, alone.speed.against, alone.memory) == ("bfloat16", "tiny-llama", None)


def test_bad_input_is_named(run: Run, text: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kites.txt is shorter than one window of 9999 tokens"):
        evaluate_models(["tiny-llama"], text=text, window=9999)
    with pytest.raises(DataError, match="600 tokens are longer than the model.s 512 positions; use --window"):
        evaluate_models(["tiny-llama"], text=text, window=600)
    with pytest.raises(ConfigError, match="--point is for points of a run"):
        evaluate_models(["tiny-llama"], points=["knee"], text=text)
    with pytest.raises(ConfigError, match="tiny-llama is named twice"):
        evaluate_models(["tiny-llama", "tiny-llama"], text=text)
    with pytest.raises(SelectionError, match="no point 'p99'"):
        evaluate_models([str(run.directory)], points=["p99"], text=text)
    with pytest.raises(DataError, match="no text to measure on.*--perplexity"):
        evaluate_models([str(tmp_path / "model")])
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "problem.toml").write_text((run.directory / "problem.toml").read_text(encoding="utf-8"))
    with pytest.raises(RunError, match="no front yet"):
        evaluate_models([str(tmp_path / "begun")], text=text)
    told: list[Event] = []
    with pytest.raises(ModelError, match="no such model directory"):
        evaluate_models(["tiny-llama", str(tmp_path / "model")], text=text, on_event=told.append)
    assert not told


def test_the_command_measures_everything(run: Run, text: Path, tasks: Path, tmp_path: Path) -> None:
    scores, page = tmp_path / "scores.json", tmp_path / "scores.html"
    costs = "--latency --memory --prompt-tokens 24 --new-tokens 4 --rounds 2"
    arguments = [
        *("evaluate", str(run.directory), "--point", "p01,knee", "--perplexity", str(text), "--window", "64"),
        *("--windows", "2", "--tasks", "made_up_pair", "--include-path", str(tasks), "--limit", "4"),
        *("--json", str(scores), "--html", str(page), *costs.split()),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    document = json.loads(scores.read_text(encoding="utf-8"))
    assert "lm-eval" in document["versions"]
    assert [model["name"].rpartition(":")[2] for model in document["models"]] == ["tiny-llama", "p01", "p05"]
    for words in ("perplexity", "held-out ppl", "gap", "made_up_pair acc", "prefill tok/s", "peak memory", "KV cache"):
        assert words in result.stdout
        assert words in page.read_text(encoding="utf-8")
    assert "±" in result.stdout
    model = document["models"][1]
    assert model["texts"][0]["window"] == 64
    assert model["tasks"][0]["stderr"] is not None
    assert model["speed"]["workload"]["prompt_tokens"] == 24
    assert model["memory"]["peak_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--tasks", "arc_esay"), "error: no task, group or tag 'arc_esay'"),
        (("--tasks", "piqa"), "error: the data of task 'piqa' are on a hub that is not in reach"),
        (("--perplexity", "wikitext2"), "error: dataset 'Salesforce/wikitext'"),
        (("--perplexity", "short.txt", "--window", "500"), "error: short.txt is shorter than one window of 500 tokens"),
        (("--point", "knee"), "error: --point is for points of a run"),
        (("--latency", "--prompt-tokens", "600"), "error: 600 prompt and 32 new tokens are more than the model's 512"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    arguments: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("Two words", encoding="utf-8")
    result = CliRunner().invoke(app, ["evaluate", "tiny-llama", *arguments], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stdout == ""
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert expected in errors[0]
    assert "Traceback" not in result.stderr


def test_without_lm_eval_the_command_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = CliRunner().invoke(app, ["evaluate", "tiny-llama", "--tasks", "piqa"], catch_exceptions=False)
    assert result.exit_code == 2
    assert result.stderr == "error: --tasks needs lm-eval: pip install 'nas-llm[eval]'\n"
