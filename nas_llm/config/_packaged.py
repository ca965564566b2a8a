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


def packaged_paths() -> dict[str, Path]:
    """Name to file of all packaged definitions, by name; the name of one in a folder is ``folder/name``.

    Raises:
        ConfigError: See :func:`problems_directory`.
    """
    folder = problems_directory()
    paths = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob("*.toml")}
    # Those of a folder come behind those of none.
    return dict(sorted(paths.items(), key=lambda item: (item[0].count("/"), item[0])))


def list_problems() -> list[PackagedProblem]:
    """All packaged definitions, by name.

    Raises:
        ConfigError: If a packaged file cannot be read as TOML.
    """
    found = []
    for name, path in packaged_paths().items():
        try:
            description = tomllib.loads(path.read_text(encoding="utf-8")).get("description", "")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: {error}") from error
        found.append(PackagedProblem(name, str(description), path))
    return found
