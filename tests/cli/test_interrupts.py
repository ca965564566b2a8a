"""Ctrl-C, in whatever part of a command: exit code 130 and one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome

import nas_llm.errors
from nas_llm.config import load_problem
from nas_llm.errors import Interrupted, NasLlmError
from nas_llm.events import Event, StageStarted
from nas_llm.workflow import run_search

COMMAND = [sys.executable, "-c", "from nas_llm.cli import main; main()"]
SMALL = (
    "search.population=8",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
)


def interrupted(*arguments: str, after: str, folder: Path, wait: float = 0.0) -> tuple[int, list[str]]:
    """Exit code and lines of a command that a terminal's Ctrl-C reaches, with all of its processes, after a line."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    )
    lines = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if line.startswith(after):
                time.sleep(wait)
                os.killpg(process.pid, signal.SIGINT)
                break
        lines += process.communicate(timeout=120)[0].splitlines(keepends=True)
    finally:
        process.kill()
        process.wait()
    return process.returncode, lines


def test_it_is_one_exception_and_no_error() -> None:
    assert not issubclass(Interrupted, NasLlmError)
    studies = pytest.importorskip("nas_llm.studies")
    assert studies.Interrupted is nas_llm.errors.Interrupted


def test_any_command_ends_by_it_with_130(run: Callable[..., Outcome], fake: FakeWorkflow) -> None:
    def stop() -> None:
        raise Interrupted

    fake.during_search = stop
    outcome = run("search", "tiny-llama")
    assert outcome.code == 130
    assert outcome.err.endswith("interrupted\n")


@pytest.mark.parametrize("stage", ["model: tiny-llama", "data:", "calibration: obs"])
def test_a_study_that_prepares(stage: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")
    code, lines = interrupted("study", "tiny-llama", after=stage, folder=tmp_path)
    assert code == 130
    assert "Traceback" not in "".join(lines)
    assert lines[-1] == "interrupted before a trial was done; --resume goes on\n"
    # Nor does transformers warn of texts that no model is going to be run on.
    assert "indexing errors" not in "".join(lines)


@pytest.mark.parametrize("wait", [0.0, 1.5, 3.0])
def test_a_study_whose_workers_have_hardly_begun(wait: float, tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")
    code, lines = interrupted(
        "study", "tiny-llama", "--workers", "2", after="calibration: 4,096", wait=wait, folder=tmp_path
    )
    assert code == 130
    text = "".join(lines)
    assert "Traceback" not in text
    assert "worker process ended" not in text
    assert "--resume goes on" in text


def test_a_resumption_that_is_stopped_early_has_the_evaluations_of_its_history(tmp_path: Path) -> None:
    loaded = load_problem("tiny-llama", overrides=[*SMALL, "search.evaluations=28"])
    assert run_search(loaded, run_dir=tmp_path / "r").evaluations == 28
    stages: list[str] = []

    def on_event(event: Event) -> None:
        if isinstance(event, StageStarted):
            stages.append(event.stage)

    loaded = load_problem("tiny-llama", overrides=[*SMALL, "search.evaluations=36"])
    for last in ("model", "data", "calibration"):
        summary = run_search(
            loaded,
            run_dir=tmp_path / "r",
            resume=True,
            on_event=on_event,
            should_stop=lambda last=last: last in stages,  # type: ignore[misc]
        )
        assert (summary.interrupted, summary.evaluations) == (True, 28)
        stages.clear()
    assert run_search(loaded, run_dir=tmp_path / "new", should_stop=lambda: True).evaluations == 0
