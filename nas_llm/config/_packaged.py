"""Problem definitions that come with the package."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import NamedTuple

from nas_llm.errors import ConfigError
from nas_llm.files import packaged_folder


class PackagedProblem(NamedTuple):
    """One definition that a command can take by its name."""

    name: str
    description: str
    path: Path


def problems_directory() -> Path:
    """Where packaged definitions lie: inside the installed package, or ``problems/`` of a source checkout.

    Raises:
        ConfigError: If neither is there, i.e. the installation is damaged.
    """
    return packaged_folder("problems")


def list_problems() -> list[PackagedProblem]:
    """All packaged definitions, by name.

    Raises:
        ConfigError: If a packaged file cannot be read as TOML.
    """
    found = []
    for path in sorted(problems_directory().glob("*.toml"), key=lambda path: path.stem):
        try:
            description = tomllib.loads(path.read_text(encoding="utf-8")).get("description", "")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error
        found.append(PackagedProblem(path.stem, str(description), path))
    return found
