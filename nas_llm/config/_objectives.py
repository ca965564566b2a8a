"""The key ``objectives``: names, aliases, and references to a class of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic_core import PydanticCustomError

from nas_llm.errors import ConfigError
from nas_llm.plugins import is_reference
from nas_llm.space.objectives import (
    BUILT_IN,
    OBJECTIVES,
    Objective,
    is_quality,
    objective,
    quality_names,
    workload_objective,
)

COST_OBJECTIVES = tuple(known.name for known in BUILT_IN if not known.measured)
QUALITY_OBJECTIVES = tuple(known.name for known in BUILT_IN if known.measured)


def known_objective(name: str) -> str:
    """What a definition keeps of an entry of ``objectives``: an alias becomes the name, a reference stays.

    Raises:
        PydanticCustomError: If nobody knows the name.
    """
    if is_reference(name) or OBJECTIVES.known(name) is not None or workload_objective(name) is not None:
        return name
    if name in objective(name).aliases:
        return objective(name).name
    # Asked last: it looks for plugins of installed packages.
    if name in OBJECTIVES.names():
        return name
    raise PydanticCustomError("unknown_name", "is not known", {"known": OBJECTIVES.names()})


def measured_objectives(names: Sequence[str]) -> list[str]:
    """The measured ones of some entries of ``objectives``; a class of one's own is always a cost."""
    return [name for name in names if not is_reference(name) and is_quality(name)]


def check_objectives(names: Sequence[str]) -> None:
    """Refuse objectives that cannot be searched for together; no class of one's own is loaded.

    Raises:
        ValueError: If they are too few, one is there twice, or not exactly one is measured.
    """
    if len(names) < 2 or len(set(names)) != len(names):
        raise ValueError(f"objectives must name at least two different ones, got {list(names)}")
    if len(measured_objectives(names)) != 1:
        own = "; a class of your own is a cost" if any(map(is_reference, names)) else ""
        raise ValueError(f"objectives must name exactly one of {', '.join(quality_names())}, got {list(names)}{own}")


def load_objectives(names: Sequence[str], *, base_dir: Path | None = None) -> tuple[Objective, ...]:
    """The records of the entries of ``objectives``; classes of one's own are loaded.

    Args:
        names: The entries.
        base_dir: Folder that references to files start from; default: where they were found before, else the working
            directory.

    Raises:
        ConfigError: If a class cannot be loaded or is no cost, or two have the same name.
    """
    records = tuple(
        OBJECTIVES.get(name, where="objectives", base_dir=base_dir) if is_reference(name) else objective(name)
        for name in names
    )
    entries: dict[str, str] = {}
    for name, record in zip(names, records, strict=True):
        other = entries.setdefault(record.name, name)
        if other != name:
            raise ConfigError(
                f"objectives {other!r} and {name!r} both have the name {record.name!r}; give one class another name"
            )
    return records
