from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome
from typer.testing import CliRunner

from nas_llm.cli import _backend, app


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWorkflow:
    """The library replaced at the one place where commands reach it."""
    workflow = FakeWorkflow()
    for name in (
        "run_search",
        "open_run",
        "export_points",
        "reconstruct_points",
        "evaluate_models",
        "what_is_servable",
    ):
        monkeypatch.setattr(_backend, name, getattr(workflow, name))
    return workflow


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(workplace: Path) -> Callable[..., Outcome]:
    """Runs the command line in an empty working directory."""

    def invoke(*arguments: str) -> Outcome:
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke
