"""Reading a problem definition: find the file, put overrides in, validate, say what is wrong in one line."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nas_llm.config._messages import Fault, faults
from nas_llm.config._overrides import apply_override, parse_override
from nas_llm.config._packaged import packaged_paths
from nas_llm.config._plugins import import_plugins, load_plugins
from nas_llm.config._problem import Problem
from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean

_SHOWN_FAULTS = 3
# A run's problem.toml is a definition with this table added; it can be searched again like any other.
_RESOLVED = "resolved"


@dataclass(frozen=True, kw_only=True)
class LoadedProblem:
    """A validated definition and where it came from.

    Attributes:
        problem: The definition, overrides included.
        path: The TOML file.
        base_dir: What relative paths inside the definition are relative to: the file's folder; the working directory
            for a packaged definition; what it was at first for the ``problem.toml`` of a run.
    """

    problem: Problem
    path: Path
    base_dir: Path


def load_problem(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> LoadedProblem:
    """Read a packaged definition by name, or any TOML file.

    Args:
        name_or_path: A packaged name such as ``"smollm2-135m"``, or a path.
        overrides: ``"dotted.key=value"`` strings; the value is TOML, or else a plain string.

    Raises:
        ConfigError: If the file is not there, is no TOML, a key or value is wrong, or an objective of one's own cannot
            be loaded; always one line.
    """
    path, packaged = _find(str(name_or_path))
    data = read_toml(path)
    resolved = data.pop(_RESOLVED, {})
    values = dict(parse_override(text) for text in overrides)
    for key, value in values.items():
        apply_override(data, key, value)
    base_dir = Path.cwd() if packaged else _base_dir(resolved) or path.resolve().parent
    import_plugins(data, base_dir)
    problem = _validated(data, path, tuple(values))
    load_plugins(problem, base_dir)
    return LoadedProblem(problem=problem, path=path, base_dir=base_dir)


def _base_dir(resolved: Any) -> Path | None:
    return Path(resolved["base_dir"]) if isinstance(resolved, dict) and "base_dir" in resolved else None


def _find(name: str) -> tuple[Path, bool]:
    path, packaged = Path(name), packaged_paths()
    if name in packaged:
        return packaged[name], True
    if path.is_file():
        return path, False
    if path.is_dir():
        raise ConfigError(f"{name} is a directory; name a TOML file or one of {_listed(packaged)}")
    siblings = [str(sibling) for sibling in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    hint = (
        did_you_mean(name.removesuffix(".toml"), packaged, 0.8, what="the packaged ")
        or did_you_mean(path.stem, packaged, 0.6, what="the packaged ")
        or did_you_mean(str(path), siblings, 0.8)
        or f"packaged are {_listed(packaged)}"
    )
    what = "problem file" if path.suffix == ".toml" or path.parent != Path() else "problem"
    raise ConfigError(f'{what} "{name}" does not exist; {hint}')


def _listed(names: Iterable[str]) -> str:
    """Names on one line; of those in a folder no more than their number."""
    folders = Counter(name.rpartition("/")[0] for name in names)
    shown = [name for name in names if "/" not in name]
    shown += [f"{count} in {folder}/" for folder, count in folders.items() if folder]
    return ", ".join(shown) + (" (see nas-llm problems)" if len(shown) > folders[""] else "")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: If it cannot be read, or is no TOML.
    """
    try:
        # Editors on Windows begin it with a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8").removeprefix("\ufeff"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def override_problem(problem: Problem, values: Mapping[str, Any]) -> Problem:
    """A definition with some keys replaced, validated anew.

    Args:
        problem: The definition.
        values: Dotted key to value, e.g. ``{"reconstruction.method": "admm"}``.

    Raises:
        ConfigError: If a key or value is wrong; always one line.
    """
    if not values:
        return problem
    data = problem.model_dump(exclude_none=True)
    for key, value in values.items():
        apply_override(data, key, value)
    try:
        return _parsed(data)
    except ValidationError as error:
        raise ConfigError(_said(faults(error, Problem, data))) from error


def _validated(data: dict[str, Any], path: Path, overridden: tuple[str, ...]) -> Problem:
    try:
        return _parsed(data)
    except ValidationError as error:
        found = faults(error, Problem, data)
    origin = str(path)
    if all(_within(fault, overridden) for fault in found):
        origin = "--set"
    elif overridden and not all(fault.path for fault in found):
        origin = f"{path} with --set"
    raise ConfigError(f"{origin}: {_said(found)}")


def _parsed(data: dict[str, Any]) -> Problem:
    # By way of JSON because pydantic's strict mode takes arrays for tuples there: 40.0, "40" and true are
    # no integers, as in any other TOML reader.
    return Problem.model_validate_json(json.dumps(data, default=str), strict=True)


def _said(found: Sequence[Fault]) -> str:
    lines = [fault.message for fault in found[:_SHOWN_FAULTS]]
    if len(found) > _SHOWN_FAULTS:
        lines.append(f"and {len(found) - _SHOWN_FAULTS} more")
    return "; ".join(lines)


def _within(fault: Fault, keys: tuple[str, ...]) -> bool:
    if not fault.path:
        return False
    return any(f"{fault.path}.".startswith((f"{key}.", f"{key}[")) or key.startswith(f"{fault.path}.") for key in keys)
