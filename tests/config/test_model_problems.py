"""The files of problems/models/ are what their script makes, and load without weights or network."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from script_modules import load_script

from nas_llm.config import list_problems, load_problem
from nas_llm.models import known_architecture
from nas_llm.workflow import check_problem

ROOT = Path(__file__).parents[2]
NAMES = sorted(entry.name for entry in list_problems() if entry.name.startswith("models/"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("model_problems")


def test_committed_problems_are_what_the_script_makes(script: ModuleType) -> None:
    there = {path: path.read_text(encoding="utf-8") for path in script.PROBLEMS.glob("*.toml")}
    assert there == script.problem_files(), "run python scripts/model_problems.py"
    assert len(NAMES) == len(script.SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_checked_offline(name: str) -> None:
    loaded = load_problem(name)
    found = check_problem(loaded, rate=lambda device, dtype: 1e12)
    assert found.lowest.inheriting_ratio == pytest.approx(0.5, abs=0.01)
    assert loaded.problem.data.window <= known_architecture(loaded.problem.model.source).max_positions
