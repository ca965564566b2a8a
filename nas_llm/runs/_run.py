"""A run directory, opened."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import tomli_w
from pydantic import ValidationError

from nas_llm.config import Problem, faults, import_plugins, load_plugins, override_problem
from nas_llm.errors import RunError
from nas_llm.files import write_atomic
from nas_llm.front import Front
from nas_llm.runs._layout import PROBLEM_FILE, RESOLVED
from nas_llm.runs._open_front import open_front
from nas_llm.runs._resolved import Resolved
from nas_llm.runs._what_may_change import what_changed


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run directory that holds a front."""

    directory: Path
    problem: Problem
    front: Front


def read_problem(directory: Path) -> tuple[Problem, Resolved]:
    """Read ``problem.toml`` back: the definition and what it was resolved to.

    Raises:
        RunError: If the directory holds no run, the file was damaged, or something that it names is not known.
        ConfigError: If code of one's own that it names is not there any more.
    """
    path = directory / PROBLEM_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        resolved = Resolved.from_dict(document.pop(RESOLVED))
    except FileNotFoundError as error:
        raise RunError(f"{directory} holds no run: it has no {PROBLEM_FILE}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged and cannot be read; start the run anew in another directory") from error
    base_dir = Path(resolved.base_dir)
    import_plugins(document, base_dir)
    try:
        problem = Problem.model_validate(document)
    except ValidationError as error:
        # Written well once: by a plugin that is not there now, or by another version.
        raise RunError(f"{path} cannot be used: {faults(error, Problem, document)[0].message}") from error
    # A run can be looked at where its finishing method is not, and without torch.
    load_plugins(problem, base_dir, finish=False)
    return problem, resolved


def write_problem(directory: Path, problem: Problem, resolved: Resolved) -> None:
    """Write ``problem.toml``: the definition, and under ``[resolved]`` what it was resolved to.

    Raises:
        RunError: If it cannot be written.
    """
    document = problem.model_dump(exclude_none=True) | {RESOLVED: resolved.to_dict()}
    write_atomic(directory / PROBLEM_FILE, tomli_w.dumps(document))


def check_same_problem(directory: Path, problem: Problem) -> None:
    """Refuse to resume a run whose definition changed.

    Raises:
        RunError: If it changed; names the keys.
    """
    changed = what_changed(read_problem(directory)[0], problem)
    if changed:
        shown = ", ".join(f"{key} (was {old!r}, now {new!r})" for key, (old, new) in list(changed.items())[:3])
        raise RunError(f"{directory} was started with another problem: {shown}; undo the change or start a new run")


def open_run(run_dir: Path, *, model: str | None = None) -> Run:
    """Open a finished run.

    Args:
        run_dir: Its directory.
        model: Where its dense model is now, if it was moved since; must be the same model, which is checked when it is
            loaded.

    Raises:
        RunError: If there is no run, or it has no front yet.
    """
    problem, _ = read_problem(run_dir)
    front = open_front(run_dir)
    if model is not None:
        place = str(Path(model).resolve()) if Path(model).exists() else model
        problem = override_problem(problem, {"model.source": place})
        front = replace(front, model={**front.model, "source": place})
    return Run(directory=run_dir, problem=problem, front=front)
