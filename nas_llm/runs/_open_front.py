"""The front of a run, without the rest of it."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import RunError, first_line
from nas_llm.front import Front
from nas_llm.runs._layout import FRONT_FILE, PROBLEM_FILE, is_run


def open_front(run_dir: Path) -> Front:
    """Read ``front.json`` of a run directory; the definition is not read, which saves a second.

    Raises:
        RunError: If there is no run, it has no front yet, or the file was damaged.
    """
    if not is_run(run_dir):
        raise RunError(f"{run_dir} holds no run: it has no {PROBLEM_FILE}")
    path = run_dir / FRONT_FILE
    if not path.is_file():
        raise RunError(f"{run_dir} has no front yet; finish it with nas-llm search ... --run {run_dir} --resume")
    try:
        return Front.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}") from error
    except RunError as error:
        raise RunError(f"{path}: {error}") from error
