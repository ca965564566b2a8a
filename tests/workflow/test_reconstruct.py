"""Points finished by each method, through the calls that commands make."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner
from whole_fronts import make_run

import nas_llm
from nas_llm.cache import cache_dir
from nas_llm.calibration import calibrate
from nas_llm.cli import app
from nas_llm.cli.terminal import reconstruction_table
from nas_llm.config import load_problem, override_problem
from nas_llm.data import Splits, WindowSet, build_splits, packaged_sample, read_texts
from nas_llm.errors import ConfigError, DataError, ExportError, RunError
from nas_llm.evaluation import model_perplexity
from nas_llm.events import Event, Notice, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.finishing import Finisher, finish_plan
from nas_llm.models import DenseModel, load_model
from nas_llm.reconstruction import BlockReconstructor, SequentialReconstructor, TokenWeights
from nas_llm.session import Prepared, reopen
from nas_llm.subnet import build_subnet
from nas_llm.workflow import FrontPoint, Run, export_points, open_run, reconstruct_points, run_search

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Its settings are spelled out: the defaults are free to change."""
    settings = ("method='closed_form'", "damping=0.01", "target='residual'", "step=0.5", "blend=0.7")
    return make_run(tmp_path_factory.mktemp("runs") / "made-up", *(f"reconstruction.{text}" for text in settings))


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    return load_model("tiny-llama")


@pytest.fixture(scope="module")
def prepared(run: Run) -> Prepared:
    return reopen(run, on_event=ignore)


def _splits(run: Run, dense: DenseModel, **reconstruction: Any) -> Splits:
    def written(tokens: int, kind: str = "") -> list[str]:
        sample = packaged_sample("tiny-llama", kind)
        assert sample is not None
        return read_texts(sample)

    problem = override_problem(run.problem, {f"reconstruction.{key}": value for key, value in reconstruction.items()})
    return build_splits(
        problem.data,
        tokenizer=dense.tokenizer,
        self_texts=written,
        base_dir=Path(),
        reconstruction=problem.reconstruction_split,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], value) for name, value in wanted.items())


def _exported(run: Run, point: FrontPoint, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    export_points(run, [point], out=out, **options)
    state: dict[str, torch.Tensor] = nas_llm.load(out / point.id / "hf")[0].state_dict()
    return state


def _sequential(run: Run, dense: DenseModel, windows: WindowSet) -> SequentialReconstructor:
    section = run.problem.calibration
    calibration = calibrate(
        dense, _splits(run, dense).calibration, scorer=section.scorer, damping=section.damping, device=CPU
    )
    return SequentialReconstructor(
        dense,
        windows,
        target="residual",
        damping=0.01,
        step=0.5,
        blend=0.7,
        start=BlockReconstructor(dense, calibration, damping=0.01, device=CPU),
        tokens=TokenWeights(relative=True),
        refit_inputs=True,
        device=CPU,
    )


def test_a_sequential_export_is_bit_for_bit_what_the_reconstructor_gives(
    run: Run, dense: DenseModel, tmp_path: Path
) -> None:
    point = run.front.points[3]
    found = _exported(run, point, tmp_path, method="sequential")
    windows = _splits(run, dense).calibration
    assert windows.digest() == run.front.data["calibration"]["digest"]
    result = _sequential(run, dense, windows).reconstruct(point.genome)
    assert _same(found, build_subnet(dense, point.genome, edit=result.edit).state_dict())
    rows = _rows(tmp_path / point.id / "reconstruction.csv")
    places = [(str(residual.layer), residual.projection) for residual in result.residuals]
    assert [(row["layer"], row["projection"]) for row in rows] == places
    assert [row["residual_after"] for row in rows] == [f"{residual.after:.6g}" for residual in result.residuals]
    assert {row["damping"] for row in rows} == {"0.01"}
    assert {row["held_out"] + row["primal"] for row in rows} == {""}


def test_of_several_steps_and_blends_a_point_takes_the_best_on_fitness_text(
    run: Run, prepared: Prepared, dense: DenseModel, tmp_path: Path
) -> None:
    points = [run.front.points[1], run.front.points[4]]
    choices = {"reconstruction.step": [0.3, 1.0], "reconstruction.blend": [0.5, 1.0, 0.8]}
    problem = override_problem(run.problem, {**choices, "reconstruction.method": "sequential"})
    chosen = Finisher(prepared, plan=finish_plan(problem)).finish(points)
    for point, finished in zip(points, chosen, strict=True):
        losses = {}
        for step, blend in product(*choices.values()):
            one = override_problem(problem, {"reconstruction.step": step, "reconstruction.blend": blend})
            (single,) = Finisher(prepared, plan=finish_plan(one)).finish([point])
            assert not single.chosen
            model = build_subnet(dense, point.genome, edit=single.edit)
            losses[step, blend] = math.log(model_perplexity(model, prepared.splits.fitness)), model.state_dict()
        least = min(losses, key=lambda key: losses[key][0])
        assert finished.chosen == dict(zip(("step", "blend"), least, strict=True))
        found = build_subnet(dense, point.genome, edit=finished.edit).state_dict()
        wanted = losses[least][1]
        assert all(torch.allclose(found[name], value, rtol=1e-5, atol=1e-6) for name, value in wanted.items())


def test_what_a_point_took_is_in_its_record_its_card_and_the_terminal(run: Run, tmp_path: Path) -> None:
    point = run.front.points[4]
    [record] = reconstruct_points(run, [point], method="sequential", step=[0.5, 0.3], blend=[1.0, 0.5])
    took = record.settings["chosen"]
    assert took["step"] in (0.5, 0.3)
    assert took["blend"] in (1.0, 0.5)
    words = f"{point.id} took step {took['step']:g}, blend {took['blend']:g}"
    assert words in str(reconstruction_table(run.front, [record]).caption)
    changed = replace(run, problem=override_problem(run.problem, {"reconstruction.blend": [1.0, 0.5]}))
    [exported] = export_points(changed, [point], out=tmp_path, method="sequential")
    card = (exported.path / "README.md").read_text(encoding="utf-8")
    assert re.search(r"step 0.5, blend 1 or 0.5\), of these step 0.5 and blend (1|0.5), on 1,024 tokens", card)


def test_samples_are_windows_apart_from_those_that_judge(run: Run, dense: DenseModel, tmp_path: Path) -> None:
    point = run.front.points[2]
    found = _exported(run, point, tmp_path, method="sequential", samples=12)
    splits = _splits(run, dense, tokens=12 * 128)
    for name in ("calibration", "fitness", "held_out"):
        assert getattr(splits, name).digest() == run.front.data[name]["digest"]
    assert splits.reconstruction is not None
    assert splits.reconstruction.tokens.shape == (12, 128)
    windows = splits.reconstruction
    result = _sequential(run, dense, windows).reconstruct(point.genome)
    assert _same(found, build_subnet(dense, point.genome, edit=result.edit).state_dict())


def test_the_closed_form_takes_the_cached_grams(run: Run, dense: DenseModel, tmp_path: Path) -> None:
    point = run.front.points[1]
    found = _exported(run, point, tmp_path)
    calibration = calibrate(dense, _splits(run, dense).calibration, scorer="obs", damping=0.01, device=CPU)
    reconstructor = BlockReconstructor(dense, calibration, damping=0.01, device=CPU)
    attn, mlp = point.genome.attn_mask, point.genome.mlp_mask
    wanted = build_subnet(
        dense, point.genome, edit=lambda layer, state: reconstructor.refit(layer, state, attn[layer], mlp[layer])
    )
    assert _same(found, wanted.state_dict())


def test_long_admm_is_the_closed_form_and_the_papers_thirty_iterations_are_on_the_way(
    tmp_path_factory: pytest.TempPathFactory, run: Run, tmp_path: Path
) -> None:
    settings = ("method='admm'", "iterations=1000", "damping=1.0")
    long = make_run(tmp_path_factory.mktemp("runs") / "long", *(f"reconstruction.{text}" for text in settings))
    point = long.front.points[4]
    found = _exported(long, point, tmp_path / "admm")
    exact = _exported(long, point, tmp_path / "closed", method="closed_form")
    for name, value in exact.items():
        assert float((found[name] - value).norm()) <= 1e-3 * float(value.norm()), name
    one, other = (_rows(tmp_path / name / point.id / "reconstruction.csv") for name in ("admm", "closed"))
    for row, expected in zip(one, other, strict=True):
        assert float(row["residual_after"]) == pytest.approx(float(expected["residual_after"]), rel=1e-3)
        assert max(float(row["primal"]), float(row["dual"])) < 1e-3
        assert expected["primal"] == expected["dual"] == ""
    short, closed = (
        reconstruct_points(run, run.front.points[4:5], method=method)[0] for method in ("admm", "closed_form")
    )
    assert short.settings["iterations"] == 30
    for mine, best in zip(short.residuals, closed.residuals, strict=True):
        assert float(str(mine["primal"])) > 1e-6
        assert float(str(mine["residual_after"])) >= float(str(best["residual_after"])) * (1 - 1e-9)


@pytest.mark.parametrize("method", ["closed_form", "admm", "sequential"])
def test_points_are_measured_before_and_after_and_their_residuals_written(
    run: Run, method: str, tmp_path: Path
) -> None:
    points = run.front.points[1:4]
    told: list[Event] = []
    options: dict[str, Any] = {"method": method, "samples": 10, "damping": [1e-3, 1e-1], "target": "sublayer"}
    records = reconstruct_points(run, points, memory_gb=16.0, on_event=told.append, **options)
    assert [record.point.id for record in records] == ["p02", "p03", "p04"]
    inherited = export_points(run, points[1:2], out=tmp_path, method="none")[0]
    assert records[1].fitness_perplexity[0] == inherited.fitness_perplexity
    assert records[1].held_out_perplexity[0] == inherited.held_out_perplexity
    for record in records:
        assert record.path == run.directory / "reconstruction" / f"{record.point.id}-{method}.csv"
        rows = _rows(record.path)
        assert len(rows) == len(record.residuals) > 3
        assert {row["damping"] for row in rows} <= {"0.001", "0.1"}
        for row in rows:
            assert float(row["residual_after"]) <= float(row["residual_before"])
            assert float(row["held_out"]) > 0
        assert (record.settings["method"], record.settings["tokens"]) == (method, 1280)
        assert record.settings["text"]["windows"] == 10
        assert (record.settings.get("target") == "sublayer") == (method == "sequential")
        assert record.seconds > 0
        assert record.cost is record.point.cost
    layers = [event.done for event in told if isinstance(event, StageAdvanced) and event.stage == "reconstruction"]
    assert layers == [1, 2, 3, 4, 5, 6] * (1 if method == "sequential" else 3)
    started = [event for event in told if isinstance(event, StageStarted) and event.stage == "reconstruction"]
    assert started[0].total == 6
    assert f"{method} on 1,280 tokens" in started[0].detail
    assert StageFinished("measuring") in told
    again = reconstruct_points(run, points[:1], **options)[0]
    assert again.residuals == records[0].residuals
    assert again.held_out_perplexity == records[0].held_out_perplexity


def test_what_was_measured_is_what_an_export_gets(run: Run, tmp_path: Path) -> None:
    points = run.front.points[4:6]
    records = reconstruct_points(run, points, method="sequential", samples=9)
    exports = export_points(run, points, out=tmp_path, method="sequential", samples=9)
    for record, export in zip(records, exports, strict=True):
        assert record.fitness_perplexity[1] == export.fitness_perplexity
        assert record.held_out_perplexity[1] == export.held_out_perplexity
        exported = tmp_path / record.point.id / "reconstruction.csv"
        assert exported.read_bytes() == record.path.read_bytes()


def test_none_keeps_the_inherited_weights(run: Run, dense: DenseModel, tmp_path: Path) -> None:
    point = run.front.points[0]
    record = reconstruct_points(run, [point], method="none")[0]
    assert record.fitness_perplexity[0] == record.fitness_perplexity[1]
    assert (record.residuals, record.settings) == ((), {"method": "none"})
    assert _same(_exported(run, point, tmp_path, method="none"), build_subnet(dense, point.genome).state_dict())
    assert not (tmp_path / point.id / "reconstruction.csv").exists()
    assert "Weights: inherited as they are." in (tmp_path / point.id / "hf" / "README.md").read_text()


def test_exports_say_how_they_were_finished(run: Run, tmp_path: Path) -> None:
    point = run.front.points[5]
    export_points(run, [point], out=tmp_path, method="sequential", samples=8)
    entry = json.loads((tmp_path / "front.json").read_text())["exports"][point.id]["hf"]["reconstruction"]
    assert (entry["method"], entry["tokens"], entry["target"]) == ("sequential", 1024, "residual")
    assert [source["source"] for source in entry["text"]["sources"]] == ["self"]
    directory = tmp_path / point.id / "hf"
    card = (directory / "README.md").read_text()
    assert "(target residual, damping 0.01, step 0.5, blend 0.7) on 1,024 tokens: self, 8 windows of 128 token" in card
    assert "--method sequential --samples 8\n" in card
    assert json.loads((directory / "nas_llm.json").read_text())["texts"]["reconstruction"] == entry["text"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "reconstruction method sequential, it is now closed_form"),
        ({"method": "admm"}, "reconstruction method sequential, it is now admm"),
        ({"method": "sequential"}, "reconstruction tokens 1024, it is now unset"),
        ({"method": "sequential", "samples": 9}, "reconstruction tokens 1024, it is now 1152"),
    ],
)
def test_an_export_with_other_settings_is_not_taken_for_this_one(
    run: Run, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    point = run.front.points[6]
    made: dict[str, Any] = {"method": "sequential", "samples": 8}
    export_points(run, [point], out=tmp_path, **made)
    before = (tmp_path / point.id / "hf" / "model.safetensors").read_bytes()
    with pytest.raises(ExportError, match=f"p07/hf exists and was exported with {message}; replace it with --force"):
        export_points(run, [point], out=tmp_path, **options)
    told: list[Event] = []
    assert export_points(run, [point], out=tmp_path, on_event=told.append, **made)[0].already
    assert [type(event) for event in told] == [Notice]
    assert not export_points(run, [point], out=tmp_path, force=True, **options)[0].already
    assert (tmp_path / point.id / "hf" / "model.safetensors").read_bytes() != before


def test_exports_from_before_there_were_other_methods_are_still_known(run: Run, tmp_path: Path) -> None:
    """Their records hold method and damping alone, and nothing on the text."""
    point = run.front.points[7]
    export_points(run, [point], out=tmp_path)
    path = tmp_path / point.id / "hf" / "export.json"
    document = json.loads(path.read_text())
    assert document["identity"]["reconstruction"] == {"method": "closed_form", "damping": 0.01}
    del document["reconstruction"]
    path.write_text(json.dumps(document))
    assert export_points(run, [point], out=tmp_path)[0].already


@pytest.mark.parametrize("method", ["sequential", "closed_form"])
def test_points_side_by_side_are_as_one_by_one(run: Run, tmp_path: Path, method: str) -> None:
    points = run.front.points[:2]
    for jobs in (1, 2):
        export_points(run, points, out=tmp_path / str(jobs), method=method, samples=8, jobs=jobs)
    for point in points:
        one, other = (tmp_path / str(jobs) / point.id / "hf" / "model.safetensors" for jobs in (1, 2))
        assert one.read_bytes() == other.read_bytes()


def test_points_go_one_by_one_where_memory_is_short(run: Run) -> None:
    points = run.front.points[:3]
    found, details = [], []
    for memory in (16.0, 0.001):
        told: list[Event] = []
        found.append(reconstruct_points(run, points, method="sequential", memory_gb=memory, on_event=told.append))
        details.append([e.detail for e in told if isinstance(e, StageStarted) and e.stage == "reconstruction"])
    assert details[0] == [f"{', '.join(point.id for point in points)}: sequential on 1,024 tokens"]
    assert details[1] == [f"{point.id}: sequential on 1,024 tokens" for point in points]
    assert [record.residuals for record in found[0]] == [record.residuals for record in found[1]]


def test_a_search_finds_too_little_text_before_it_begins_and_may_be_finished_otherwise(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("A house by the sea. " * 400)
    small = ["search.population=4", "search.evaluations=4", "data.calibration.tokens=512", "data.fitness.tokens=256"]
    small += ["data.held_out.tokens=256", "front.size=2"]
    small += ["reconstruction.method='closed_form'", "reconstruction.damping=0.01"]
    own = [*small, f"reconstruction.sources=[{{source='{tmp_path}/text.txt'}}]"]
    long = load_problem("tiny-llama", overrides=[*own, "reconstruction.tokens=100000"])
    with pytest.raises(DataError, match=r"text.txt' is too short: .* needed are 99968 \(reconstruction 99968\)"):
        run_search(long, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run_search(load_problem("tiny-llama", overrides=own), run_dir=tmp_path / "run")
    changed = [*own, "reconstruction.method='sequential'", "reconstruction.target='sublayer'", "search.evaluations=6"]
    run_search(load_problem("tiny-llama", overrides=changed), run_dir=tmp_path / "run", resume=True)
    opened = open_run(tmp_path / "run")
    assert opened.problem.reconstruction.method == "sequential"
    record = reconstruct_points(opened, opened.front.points[:1])[0]
    assert record.settings["text"]["sources"][0]["source"] == f"{tmp_path}/text.txt"
    other = load_problem("tiny-llama", overrides=[*changed, "reconstruction.damping=0.5"])
    with pytest.raises(RunError, match=r"another problem: reconstruction.damping \(was 0.01, now 0.5\)"):
        run_search(other, run_dir=tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "sequental"}, 'reconstruction.method = "sequental" is not known; did you mean "sequential"'),
        ({"samples": 0}, "samples = 0 should be at least 1"),
        ({"damping": -0.5}, "reconstruction.damping = -0.5 should be a number above 0"),
        ({"damping": []}, r"reconstruction.damping = \[\] should be a number above 0"),
        ({"target": "residul"}, 'did you mean "residual"'),
        ({"samples": 1, "damping": [0.1, 0.2]}, "holds out a fraction of the windows .* 0.1 of 1 windows"),
        ({"samples": 1, "damping": [0.1, 0.2], "method": "sequential"}, "0.1 of 1 windows"),
    ],
)
def test_bad_arguments_are_named(run: Run, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        reconstruct_points(run, run.front.points[:1], **options)


def test_what_cannot_be_done_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no point was chosen"):
        reconstruct_points(run, [])
    copy = tmp_path / "run"
    shutil.copytree(run.directory, copy, ignore=shutil.ignore_patterns("reconstruction"))
    (copy / "reconstruction").write_text("mine")
    with pytest.raises(RunError, match=r"cannot write .*/reconstruction"):
        reconstruct_points(replace(run, directory=copy), run.front.points[:1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("reconstruct", "--method", "sequental"), 'error: reconstruction.method = "sequental" is not known; did you'),
        (("reconstruct", "--samples", "0"), "error: samples = 0 should be at least 1"),
        (("reconstruct", "--damping", "-1"), "error: reconstruction.damping = -1.0 should be a number above 0, or a"),
        (("reconstruct", "--memory", "0"), "error: --memory must be a number of GB above 0, got 0"),
        (("export", "--memory", "-1"), "error: --memory must be a number of GB above 0, got -1"),
        (("reconstruct", "--step", "2"), "error: reconstruction.step = 2.0 should be a number above 0 and at most"),
        (("reconstruct", "--blend", "0"), "error: reconstruction.blend = 0.0 should be a number above 0 and at mo"),
        (
            ("reconstruct", "--blend", "0.5,1.5"),
            "error: reconstruction.blend = [0.5, 1.5] should be a number above",
        ),
        (("reconstruct", "--step", "half"), "error: --step 'half' is no number; write e.g. 0.5 or 0.35,0.5,0.7"),
        (("reconstruct", "--target", "2"), "error: reconstruction.target = 2.0 is not known; known are residual, sub"),
        (("export", "--method", "closed"), 'error: reconstruction.method = "closed" is not known; did you mean "clos'),
        (("export", "--samples", "-3"), "error: samples = -3 should be at least 1"),
    ],
)
def test_the_command_line_says_it_in_one_line(run: Run, words: tuple[str, ...], message: str) -> None:
    command, *options = words
    outcome = CliRunner().invoke(app, [command, str(run.directory), *options])
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(message)
    assert outcome.stderr.count("\n") == 1


def test_the_command_line_needs_a_front(run: Run, tmp_path: Path) -> None:
    shutil.copy(run.directory / "problem.toml", tmp_path)
    outcome = CliRunner().invoke(app, ["reconstruct", str(tmp_path)])
    assert outcome.exit_code == 2
    assert "has no front yet; finish it with nas-llm search" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_the_command_shows_layers_and_leaves_a_table(run: Run) -> None:
    words = ["--point", "p02", "--method", "sequential", "--samples", "8", "--damping", "0.001,0.1"]
    outcome = CliRunner().invoke(app, ["reconstruct", str(run.directory), *words])
    assert outcome.exit_code == 0, outcome.output
    rows = _rows(run.directory / "reconstruction" / "p02-sequential.csv")
    shown = " ".join(outcome.stdout.split())
    for row in rows:
        numbers = [float(row[name]) for name in ("residual_before", "residual_after", "damping", "held_out")]
        found = re.search(rf"(?<!\d){row['layer']} {re.escape(row['projection'])}((?: [-+.e\d]+){{4}})", shown)
        assert found is not None, row
        # Both are rounded, the table to four digits.
        assert [float(word) for word in found[1].split()] == pytest.approx(numbers, rel=1e-3)
    assert "reconstruction: p02: sequential on 1,024 tokens" in outcome.stderr


def test_an_interrupted_command_leaves_nothing_half_done(run: Run) -> None:
    """Stopped in the middle of the layers, with hidden states in files."""
    stop = """
import os, signal, sys
from nas_llm.cli import main
from nas_llm.finishing import Finisher
whole = Finisher.finish
def finish(self, points, *, on_event, **options):
    def told(event):
        on_event(event)
        if getattr(event, "done", None) == 3:
            os.kill(os.getpid(), signal.SIGINT)
    return whole(self, points, on_event=told, **options)
Finisher.finish = finish
sys.argv = ["nas-llm", "reconstruct", sys.argv[1], "--point", "p09", "--method", "sequential", "--memory", "0.001"]
main()
"""
    cached = set(cache_dir().iterdir())
    done = subprocess.run(
        [sys.executable, "-c", stop, str(run.directory)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 130
    assert done.stderr.endswith("reconstruction: p09: sequential on 1,024 tokens\nerror: interrupted\n")
    assert not list((run.directory / "reconstruction").glob("p09*"))
    assert not list((run.directory / "reconstruction").glob(".*"))
    assert set(cache_dir().iterdir()) == cached
