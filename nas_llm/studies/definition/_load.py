"""Reading a study definition and the problem that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from nas_llm.config import LoadedProblem, Problem, apply_override, faults, load_problem, parse_override, read_toml
from nas_llm.errors import ConfigError
from nas_llm.files import packaged_folder
from nas_llm.hints import did_you_mean
from nas_llm.studies.definition._definition import ParameterSection, StudyDefinition
from nas_llm.studies.definition._parameters import ARGUMENTS, check_parameters, tunable_keys
from nas_llm.studies.definition._settings import with_settings

_SHOWN_FAULTS = 3


class PackagedStudy(NamedTuple):
    """One definition that a command can take by its name."""

    name: str
    description: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class LoadedStudy:
    """A validated study with its problem.

    Attributes:
        definition: The study.
        loaded: The problem as its file has it, the study's overrides in it.
    """

    definition: StudyDefinition
    loaded: LoadedProblem

    @property
    def problem(self) -> Problem:
        """The problem at the study's budget: the default setting."""
        return with_settings(
            self.loaded.problem, {"search.evaluations": self.definition.evaluations}, where="evaluations"
        )


def list_studies() -> list[PackagedStudy]:
    """All packaged definitions, by name.

    Raises:
        ConfigError: If a packaged file cannot be read as TOML, or the installation is damaged.
    """
    return [
        PackagedStudy(path.stem, str(read_toml(path).get("description", "")), path)
        for path in sorted(packaged_folder("studies").glob("*.toml"), key=lambda path: path.stem)
    ]


def load_study(name_or_path: str | Path, *, overrides: Sequence[str] = ()) -> LoadedStudy:
    """Read a packaged study by name, or any TOML file.

    Args:
        name_or_path: A packaged name such as ``"tiny-llama"``, or a path.
        overrides: ``"dotted.key=value"`` strings for keys of the study.

    Raises:
        ConfigError: If a file is not there, is no TOML, or a key or value is wrong; always one line.
    """
    path = _find(str(name_or_path))
    data = read_toml(path)
    for text in overrides:
        apply_override(data, *parse_override(text))
    try:
        return resolve_study(_validated(data), base_dir=path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def resolve_study(definition: StudyDefinition, *, base_dir: Path | None = None) -> LoadedStudy:
    """Find the problem of a study and check the one against the other.

    Args:
        definition: The study.
        base_dir: Folder that the problem's path is relative to; default: the working directory.

    Raises:
        ConfigError: If they do not fit.
    """
    beside = (base_dir or Path()) / definition.problem
    loaded = load_problem(beside if beside.is_file() else definition.problem, overrides=definition.set)
    if loaded.problem.search.start_from:
        raise ConfigError("a problem with search.start_from cannot be tuned: its searches are no fresh ones")
    study = LoadedStudy(definition=definition, loaded=loaded)
    check_parameters(definition.parameters, study.problem)
    return study


def _find(name: str) -> Path:
    path, packaged = Path(name), {entry.name: entry.path for entry in list_studies()}
    if name in packaged:
        return packaged[name]
    if path.is_file():
        return path
    hint = did_you_mean(path.stem, packaged, 0.6, what="the packaged ") or f"packaged are {', '.join(packaged)}"
    raise ConfigError(f'study "{name}" does not exist; {hint}')


def _validated(data: dict[str, Any]) -> StudyDefinition:
    if isinstance(data.get("parameters"), dict):
        data["parameters"] = _flat(data["parameters"])
    try:
        return StudyDefinition.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        found = [fault.message for fault in faults(error, StudyDefinition, data)]
    more = [f"and {len(found) - _SHOWN_FAULTS} more"] if len(found) > _SHOWN_FAULTS else []
    raise ConfigError("; ".join(found[:_SHOWN_FAULTS] + more))


def _flat(tables: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``search.population = {...}`` is a table within a table; names of ranges are dotted keys."""
    fields = ParameterSection.model_fields
    flat: dict[str, Any] = {}
    for name, value in tables.items():
        key = f"{prefix}{name}"
        if f"{key}." in _tables() and isinstance(value, dict):
            flat |= _flat(value, f"{key}.")
            continue
        if not isinstance(value, dict):
            raise ConfigError(
                f"parameters.{key} = {json.dumps(value, default=str)} should be a range such as {{low = 0, high = 1}}"
            )
        for field in value:
            if field not in fields:
                hint = did_you_mean(field, fields) or f"known are {', '.join(fields)}"
                raise ConfigError(f'unknown key "{field}" in parameters.{key}; {hint}')
        flat[key] = value
    return flat


def _tables() -> set[str]:
    """What stands before a dot in a key that may be tuned: ``search.``, ``search.operators.``, ..."""
    keys = (*tunable_keys(), ARGUMENTS + "x")
    return {key[: place + 1] for key in keys for place, character in enumerate(key) if character == "."}
