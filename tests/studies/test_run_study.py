"""Whole studies, in this process and in others, one of which dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import optuna
import optuna.visualization as draw
import pytest
from optuna.trial import TrialState
from small_studies import small_study

from nas_llm.config import load_problem
from nas_llm.errors import StudyError
from nas_llm.events import Event, TrialFinished
from nas_llm.studies import LoadedStudy, load_study, open_storage, run_study, study_summary, write_best
from nas_llm.studies._liveness import OWNER
from nas_llm.studies._slots import REASON, SLOT, STALE
from nas_llm.workflow import run_search

DEFINITION = """
name = "NAME"
problem = "tiny-llama"
set = ["data.calibration.tokens=1024", "data.fitness.tokens=512", "data.held_out.tokens=256"]
evaluations = 24
seeds = [0]
trials = 6
sampler = { name = "random" }
pruner = { name = "none" }
[parameters]
search.population = { low = 8, high = 12, step = 4 }
search.operators.guided_probability = { low = 0.0, high = 1.0 }
"""
WORKER = "from nas_llm.cli import main; main()"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedStudy, Path, list[Event]]:
    """A study of six trials in a journal file."""
    told: list[Event] = []
    loaded, path = small_study(trials=6), tmp_path_factory.mktemp("study") / "study.journal"
    summary = run_study(loaded, storage=path, on_event=told.append)
    assert not summary.interrupted
    return loaded, path, told


def test_a_study_runs_to_its_end(finished: tuple[LoadedStudy, Path, list[Event]]) -> None:
    loaded, path, told = finished
    summary = study_summary(loaded, path)
    assert [trial.number for trial in summary.trials] == list(range(6))
    assert {trial.state for trial in summary.trials} == {"complete"}
    assert [trial.label for trial in summary.trials[:3]] == ["paper", "default", ""]
    assert summary.best is not None
    best = summary.trials[summary.best]
    assert best.values[0] == max(trial.values[0] for trial in summary.trials)
    paper = summary.labelled("paper")
    assert paper is not None
    assert paper.settings["search.operators.temperature"] == float("inf")
    finished_trials = [event for event in told if isinstance(event, TrialFinished)]
    assert [event.done for event in finished_trials] == list(range(1, 7))
    assert finished_trials[-1].best == best.values[0]


def test_optunas_own_figures_take_our_studies(finished: tuple[LoadedStudy, Path, list[Event]]) -> None:
    loaded, path, _ = finished
    study = optuna.load_study(study_name=loaded.definition.name, storage=open_storage(path))
    assert study.best_trial.values is not None
    assert study.metric_names == ["hypervolume"]
    importances = draw.plot_param_importances(study)
    assert set(importances.data[0].y) == set(loaded.definition.parameters)
    assert len(draw.plot_optimization_history(study).data[0].x) == 6
    assert len(draw.plot_intermediate_values(study).data) == 6


def test_two_objectives_give_a_front(tmp_path: Path) -> None:
    loaded = small_study(objectives=["hypervolume", "seconds"], trials=4, pruner={"name": "median"})
    summary = run_study(loaded, storage=tmp_path / "j")
    assert summary.best is not None
    study = optuna.load_study(study_name="small", storage=open_storage(tmp_path / "j"))
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert draw.plot_pareto_front(study).data
    history = draw.plot_hypervolume_history(study, reference_point=[0.0, 1e3]).data[0].y
    assert list(history) == sorted(history)
    assert history[-1] > 0
    assert draw.plot_param_importances(study, target=lambda trial: trial.values[1], target_name="seconds").data


def test_a_resumed_study_goes_on_and_a_changed_one_does_not(finished: tuple[LoadedStudy, Path, list[Event]]) -> None:
    loaded, path, _ = finished
    with pytest.raises(StudyError, match="--resume"):
        run_study(loaded, storage=path)
    longer = replace(loaded, definition=loaded.definition.model_copy(update={"trials": 6}))
    assert len(run_study(longer, storage=path, resume=True).trials) == 6
    with pytest.raises(StudyError, match="study.evaluations"):
        run_study(small_study(trials=6, evaluations=20), storage=path, resume=True)
    with pytest.raises(StudyError, match="holds no study other"):
        study_summary(small_study(name="other"), path)


@pytest.mark.parametrize(("option", "value"), [("trials", 0), ("workers", 0), ("timeout", -1.0)])
def test_numbers_are_checked_first(tmp_path: Path, option: str, value: float) -> None:
    with pytest.raises(StudyError, match=f"--{option} must be"):
        run_study(small_study(), storage=tmp_path / "j", **{option: value})  # type: ignore[arg-type]
    assert not (tmp_path / "j").exists()


def test_the_best_setting_becomes_a_problem_that_search_takes(
    finished: tuple[LoadedStudy, Path, list[Event]], tmp_path: Path
) -> None:
    loaded, path, _ = finished
    summary = study_summary(loaded, path)
    write_best(summary, loaded, tmp_path / "deep" / "best.toml")
    assert summary.best is not None
    best = summary.trials[summary.best]
    text = (tmp_path / "deep" / "best.toml").read_text()
    assert text.startswith(f"# Settings of trial {best.number} of the study small: hypervolume {best.values[0]:.4f}")
    applied = load_problem(tmp_path / "deep" / "best.toml")
    assert applied.problem.search.evaluations == 16
    for key, value in best.settings.items():
        node: object = applied.problem.model_dump()
        for name in key.split("."):
            node = node[name]  # type: ignore[index]
        assert node == value
    # What it reached on this seed it reaches again.
    found = run_search(applied, run_dir=tmp_path / "run").front
    assert found is not None
    assert found.hypervolume == pytest.approx(best.values[0], rel=1e-9)


def test_a_problem_of_ones_own_is_found_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("word " * 8000)
    problem = 'name = "own"\n[model]\nsource = "tiny-llama"\n[data]\nwindow = 64\n'
    for split in ("calibration", "fitness", "held_out"):
        problem += f'[data.{split}]\ntokens = 256\nsources = [{{ source = "text.txt" }}]\n'
    (tmp_path / "own.toml").write_text(problem + "[search]\npopulation = 4\nevaluations = 8\n")
    text = (
        DEFINITION.replace('"tiny-llama"', '"own.toml"')
        .replace("NAME", "own")
        .replace("evaluations = 24", "evaluations = 12")
    )
    (tmp_path / "study.toml").write_text(
        text.replace(
            'set = ["data.calibration.tokens=1024", "data.fitness.tokens=512", "data.held_out.tokens=256"]', ""
        )
    )
    loaded = load_study(tmp_path / "study.toml")
    summary = run_study(loaded, storage=tmp_path / "j", trials=2)
    write_best(summary, loaded, tmp_path / "far" / "best.toml")
    assert load_problem(tmp_path / "far" / "best.toml").problem.data.fitness.sources[0].source == str(
        tmp_path / "text.txt"
    )


def _start(definition: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", WORKER, "study", str(definition), "--storage", url, "--resume", "--threads", "1"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=definition.parent)


def _kill_in_a_trial(victim: subprocess.Popen[bytes], study: Callable[[], optuna.Study]) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until and victim.poll() is None:
        try:
            trials = study().get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        except KeyError:
            trials = []
        if any(trial.user_attrs.get(OWNER, {}).get("pid") == victim.pid for trial in trials):
            os.kill(victim.pid, signal.SIGKILL)
            victim.wait()
            return
        time.sleep(0.02)
    raise AssertionError(f"the victim ran no trial: {victim.stderr and victim.stderr.read()!r}")


@pytest.mark.parametrize("kind", ["journal", "postgresql"])
def test_two_processes_share_a_study_and_one_is_killed(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = str(tmp_path / "study.journal") if kind == "journal" else request.getfixturevalue("postgresql_url")
    name = f"shared-{os.urandom(4).hex()}"
    (tmp_path / "study.toml").write_text(DEFINITION.replace("NAME", name))
    loaded = load_study(tmp_path / "study.toml")
    storage = open_storage(url)
    victim, survivor = _start(tmp_path / "study.toml", url), _start(tmp_path / "study.toml", url)
    try:
        _kill_in_a_trial(victim, lambda: optuna.load_study(study_name=name, storage=storage))
        _, errors = survivor.communicate(timeout=120)
    finally:
        for process in (victim, survivor):
            process.kill()
            process.wait()
    assert survivor.returncode == 0, errors.decode()
    trials = optuna.load_study(study_name=name, storage=open_storage(url)).trials
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(trial.user_attrs[SLOT] for trial in complete) == list(range(6))
    failed = [trial for trial in trials if trial.state != TrialState.COMPLETE]
    assert [trial.user_attrs[REASON] for trial in failed].count(STALE) == 1
    assert all(trial.state == TrialState.FAIL for trial in failed)
    # One process alone finds the same: what a slot suggests depends on the slot.
    alone = run_study(loaded, storage=tmp_path / "alone")
    values = {trial.user_attrs[SLOT]: trial.values[0] for trial in complete}
    assert values == {trial.number: trial.values[0] for trial in alone.trials}
    assert alone.best is not None
    assert max(values.values()) == alone.trials[alone.best].values[0]


def test_workers_of_one_call(tmp_path: Path) -> None:
    loaded = small_study(trials=4)
    summary = run_study(loaded, storage=f"sqlite:///{tmp_path}/s.db", workers=2)
    assert [trial.state for trial in summary.trials] == ["complete"] * 4
    study = optuna.load_study(study_name="small", storage=open_storage(f"sqlite:///{tmp_path}/s.db"))
    assert sorted(trial.user_attrs[SLOT] for trial in study.trials if trial.state == TrialState.COMPLETE) == list(
        range(4)
    )
