"""A dense model that lies elsewhere since the search: it is the same model, and it is said where it is now."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from checkpoints import changed, own_head
from typer.testing import CliRunner

from nas_llm.cli import app
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.data import packaged_sample
from nas_llm.errors import ConfigError, ModelError, RunError
from nas_llm.workflow import evaluate_models, export_points, open_run, reconstruct_points, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=12",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=3",
)


def _problem(model: Path, *overrides: str) -> LoadedProblem:
    text = packaged_sample("tiny-llama")
    sources = [f"data.{split}.sources=[{{source='{text}'}}]" for split in ("calibration", "fitness", "held_out")]
    return load_problem("tiny-llama", overrides=[*SMALL, *sources, f"model.source={model}", *overrides])


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run, where its model was, and where it is."""
    folder = tmp_path_factory.mktemp("moved")
    before, now = changed(folder / "before"), folder / "now"
    run_search(_problem(before), run_dir=folder / "run")
    before.rename(now)
    return folder / "run", before, now


def test_without_a_word_of_it_the_way_to_say_it_is_named(moved: tuple[Path, Path, Path]) -> None:
    run, before, _ = moved
    opened = open_run(run)
    with pytest.raises(ModelError, match=rf"{before}, which is gone; say where it is now: --model"):
        export_points(opened, opened.front.select(["knee"]))


def test_points_are_exported_reconstructed_and_evaluated(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, now = moved
    opened = open_run(run, model=str(now))
    (record,) = export_points(opened, opened.front.select(["knee"]), out=tmp_path / "exports")
    (reconstructed,) = reconstruct_points(opened, opened.front.select(["knee"]))
    assert record.fitness_perplexity == pytest.approx(reconstructed.fitness_perplexity[1], rel=1e-3)
    text = packaged_sample("tiny-llama")
    rows = evaluate_models([str(run)], points=["knee"], model=str(now), text=text, window=64, windows=2)
    assert [row.name for row in rows] == [str(now), f"{run}:{record.point.id}"]


def test_the_command_line_says_it_too(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, now = moved
    arguments = ["export", str(run), "--point", "knee", "--out", str(tmp_path / "exports")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "--model" in refused.output
    assert CliRunner().invoke(app, [*arguments, "--model", str(now)]).exit_code == 0


def test_a_search_goes_on(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, now = moved
    shutil.copytree(run, tmp_path / "run")
    summary = run_search(_problem(now, "search.evaluations=20"), run_dir=tmp_path / "run", resume=True)
    assert summary.evaluations == 20
    assert open_run(tmp_path / "run").front.model["source"] == str(now)


def test_another_model_is_not_taken_for_it(moved: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, _, _ = moved
    other = changed(tmp_path / "other", weights=own_head)
    opened = open_run(run, model=str(other))
    with pytest.raises(RunError, match="was started with model revision"):
        export_points(opened, opened.front.select(["knee"]), out=tmp_path / "exports")
    with pytest.raises(RunError, match="was started with model revision"):
        run_search(_problem(other, "search.evaluations=20"), run_dir=run, resume=True)


def test_it_is_a_word_about_runs(moved: tuple[Path, Path, Path]) -> None:
    _, _, now = moved
    with pytest.raises(ConfigError, match="--model is for points of a run"):
        evaluate_models([str(now)], model=str(now))
