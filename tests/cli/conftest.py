from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome
from typer.testing import CliRunner

from nas_llm import runs, studies, workflow
from nas_llm.cli import app
from nas_llm.studies import mirror


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWorkflow:
    """The library's public verbs replaced, which every command imports when it runs."""
    replaced = FakeWorkflow()
    for name in (
        "run_search",
        "export_points",
        "convert_export",
        "reconstruct_points",
        "evaluate_models",
        "compare_models",
        "measured_with",
        "what_is_servable",
    ):
        monkeypatch.setattr(workflow, name, getattr(replaced, name))
    for name in ("open_front", "open_run"):
        monkeypatch.setattr(runs, name, getattr(replaced, name))
    monkeypatch.setattr(mirror, "SearchMirror", replaced.mirror)
    monkeypatch.setattr(studies, "serve_dashboard", replaced.serve_dashboard, raising=False)
    return replaced


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
