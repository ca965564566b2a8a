"""The files of a run directory: what was asked for, what it was resolved to, what came of it."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from nas_llm.config import Problem, ReconstructionSection, override_problem
from nas_llm.errors import RunError
from nas_llm.evaluation import device_name, read_latency_table, table_text
from nas_llm.models import resolve_device
from nas_llm.space import LatencyTable
from nas_llm.workflow._prepare import Prepared
from nas_llm.workflow._types import Front, Run

PROBLEM_FILE, FRONT_FILE, REPORT_FILE = "problem.toml", "front.json", "report.html"
LATENCY_FILE = "latency.json"
SCORES_FILE = "scores.npz"
START_FILE = "start.json"
DESCENT_FILE = "descent.json"
_RESOLVED = "resolved"
_PACKAGES = ("nas-llm", "torch", "transformers", "pymoo", "numpy")
# What may differ between a run and its resumption: more budget, another way to report and to finish, another place of
# the same model (its revision is compared once it is loaded). Candidates may be priced with reconstruction.damping.
_FINISH = tuple(f"reconstruction.{key}" for key in ReconstructionSection.model_fields if key != "damping")
_FREE = ("description", "search.evaluations", "front", "model.source", "model.offload", *_FINISH)


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    return {name: version(name) for name in _PACKAGES}


def write_problem(directory: Path, prepared: Prepared, *, base_dir: Path) -> None:
    """Write ``problem.toml``: the definition, and under ``[resolved]`` what it was resolved to."""
    splits = prepared.splits
    document = prepared.problem.model_dump(exclude_none=True)
    document[_RESOLVED] = {
        "base_dir": str(base_dir),
        "model_revision": prepared.dense.revision,
        "data": {w.name: w.digest() for w in (splits.calibration, splits.fitness, splits.held_out)},
        "device": prepared.device.type,
        "dtype": str(prepared.dtype).removeprefix("torch."),
        "versions": package_versions(),
    }
    write_atomic(directory / PROBLEM_FILE, tomli_w.dumps(document))


def write_latency(directory: Path, prepared: Prepared) -> None:
    """Write ``latency.json``, the run's latency table, where it has one."""
    table = prepared.cost_model.latency
    if table is not None:
        write_atomic(directory / LATENCY_FILE, table_text(table))


def read_problem(directory: Path) -> tuple[Problem, dict[str, Any]]:
    """Read ``problem.toml`` back: the definition and what it was resolved to.

    Raises:
        RunError: If the directory holds no run, or the file was damaged.
    """
    path = directory / PROBLEM_FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        resolved = document.pop(_RESOLVED)
        return Problem.model_validate(document), resolved
    except FileNotFoundError as error:
        raise RunError(f"{directory} holds no run: it has no {PROBLEM_FILE}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, ValidationError) as error:
        raise RunError(f"{path} is damaged and cannot be read; start the run anew in another directory") from error


def resolved_dtype(directory: Path) -> str:
    """The arithmetic that a run was started with: another machine might choose another."""
    return str(read_problem(directory)[1].get("dtype", "auto"))


def run_latency(directory: Path, problem: Problem) -> LatencyTable | None:
    """The latency table that a run began with; None where latency is no objective.

    Raises:
        RunError: If it is missing or damaged.
    """
    return read_latency_table(directory / LATENCY_FILE) if "latency" in problem.objectives else None


def check_same_device(directory: Path, problem: Problem, table: LatencyTable) -> None:
    """Refuse to go on with a search for the latency of another device.

    Raises:
        RunError: If ``[latency]`` names another device here than the one the run's table was measured on.
        ModelError: If the device is absent.
    """
    setting = problem.model.device if problem.latency.device == "auto" else problem.latency.device
    here = device_name(resolve_device(setting))
    if here != table.device:
        raise RunError(
            f"{directory} looks for subnets that are fast on {table.device}, this device is {here}; resume it there or "
            f"start a new run"
        )


def check_same_problem(directory: Path, problem: Problem) -> None:
    """Refuse to resume a run whose definition changed.

    Raises:
        RunError: If it changed; names the keys.
    """
    before, after = _flat(read_problem(directory)[0].model_dump()), _flat(problem.model_dump())
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key) and not _is_free(key)]
    if changed:
        shown = ", ".join(f"{key} (was {before.get(key)!r}, now {after.get(key)!r})" for key in changed[:3])
        raise RunError(f"{directory} was started with another problem: {shown}; undo the change or start a new run")


def check_same_inputs(directory: Path, prepared: Prepared) -> None:
    """Refuse to resume a run whose model or text changed.

    Raises:
        RunError: If they did, or if arithmetic differs.
    """
    _, resolved = read_problem(directory)
    now = {
        "model_revision": prepared.dense.revision,
        "device": prepared.device.type,
        "dtype": str(prepared.dtype).removeprefix("torch."),
    }
    for key, value in now.items():
        if resolved.get(key) != value:
            raise RunError(
                f"{directory} was started with {key.replace('_', ' ')} {resolved.get(key)}, it is now {value}; "
                f"restore it or start a new run"
            )
    splits = prepared.splits
    for windows in (splits.calibration, splits.fitness, splits.held_out):
        if resolved["data"].get(windows.name) != windows.digest():
            text = f"{windows.name.replace('_', '-')} text"
            raise RunError(f"{directory} was started with other {text}; restore it or start a new run")


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
    path = run_dir / FRONT_FILE
    if not path.is_file():
        raise RunError(f"{run_dir} has no front yet; finish it with nas-llm search ... --run {run_dir} --resume")
    front = Front.from_json(path.read_text(encoding="utf-8"))
    if model is not None:
        place = str(Path(model).resolve()) if Path(model).exists() else model
        problem = override_problem(problem, {"model.source": place})
        front = replace(front, model={**front.model, "source": problem.model.source})
    return Run(directory=run_dir, problem=problem, front=front)


def write_atomic(path: Path, text: str) -> None:
    """Replace a text file whole or not at all.

    Raises:
        RunError: If it cannot be written.
    """
    partial: str | None = None
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="utf-8"
        ) as file:
            partial = file.name
            file.write(text)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _is_free(key: str) -> bool:
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
