"""Runs by their names: a run directory, or the name of one inside ``runs/``."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import RunError
from nas_llm.runs._layout import PROBLEM_FILE, RUNS_FOLDER, is_run


def default_run_directory(problem: str) -> Path:
    """``runs/<problem>``."""
    return RUNS_FOLDER / problem


def named_run(name: str) -> Path | None:
    """The run that a name stands for; None if it stands for none.

    Args:
        name: A run directory, or the name of one inside ``runs/``; what lies here under the name comes first.
    """
    here, inside = Path(name), RUNS_FOLDER / name
    if is_run(here):
        return here
    return inside if is_run(inside) and not here.exists() else None


def find_run(name: str) -> Path:
    """A directory by its path, or by its name inside ``runs/``; it may hold no run yet.

    Args:
        name: The path or the name.

    Raises:
        RunError: If neither is a directory; names the runs that there are.
    """
    for directory in (Path(name), RUNS_FOLDER / name):
        if directory.is_dir():
            return directory
    known = sorted(str(path.parent) for path in RUNS_FOLDER.glob(f"*/{PROBLEM_FILE}"))
    hint = f"runs here: {', '.join(known)}" if known else "start one with nas-llm search"
    raise RunError(f"no run {name!r}; {hint}")
