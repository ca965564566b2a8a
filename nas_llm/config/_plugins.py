"""Code of one's own that a definition names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas_llm.config._objectives import load_objectives
from nas_llm.config._problem import OperatorEntry, OperatorSection, Problem
from nas_llm.plugins import PluginUse, check_name, is_reference, load_module, load_reference, use_of
from nas_llm.settings import CROSSOVER_NAMES, MUTATION_NAMES, SAMPLING_NAMES

_OPERATORS = "search.operators"


def references(problem: Problem, *, finish: bool = True) -> tuple[str, ...]:
    """Every ``module:Name`` of a definition, none twice.

    Args:
        problem: The definition.
        finish: Whether the finishing method counts.
    """
    operators = (_use(entry) for _, entry, *_ in named_operators(problem.search.operators))
    named = (*problem.objectives, *operators, *((problem.reconstruction.method,) if finish else ()))
    return tuple(dict.fromkeys(name for name in named if is_reference(name)))


def load_plugins(problem: Problem, base_dir: Path, *, finish: bool = True) -> dict[str, PluginUse]:
    """Import what a definition names, so that it is known by its name from now on; may be repeated.

    Args:
        problem: The definition.
        base_dir: Folder that relative paths of the definition start from; modules that are not installed are looked
            for there, too.
        finish: Whether the finishing method is imported, too.

    Returns:
        Reference to what stands behind it.

    Raises:
        ConfigError: If something is not there or does not load, or an operator's name is unknown; names it.
    """
    used = {name: use_of(name, load_module(name, base_dir=base_dir)) for name in problem.plugins}
    used |= {name: use_of(name, load_reference(name, base_dir=base_dir)) for name in references(problem, finish=finish)}
    load_objectives(problem.objectives, base_dir=base_dir)
    check_operator_names(problem)
    return used


def import_plugins(data: Mapping[str, Any], base_dir: Path) -> None:
    """Import the modules under ``plugins`` of a definition that was not validated yet: they bring names for its keys.

    Args:
        data: The tables of the definition.
        base_dir: See :func:`load_plugins`.

    Raises:
        ConfigError: If one is not there or does not load.
    """
    named = data.get("plugins")
    for name in named if isinstance(named, list | tuple) else ():
        if isinstance(name, str):
            load_module(name, base_dir=base_dir)


def check_operator_names(problem: Problem) -> None:
    """Refuse names of operators that neither the package nor a plugin knows.

    Raises:
        ConfigError: Names the key and the nearest name.
    """
    for where, entry, kind, known in named_operators(problem.search.operators):
        check_name(kind, _use(entry), known, where=where)


def named_operators(
    section: OperatorSection,
) -> list[tuple[str, str | OperatorEntry, str, tuple[str, ...]]]:
    """The operators of a section: key, entry, kind and the package's own names; the default mutations by name."""
    mutations = MUTATION_NAMES if section.mutations is None else section.mutations
    return [
        (f"{_OPERATORS}.sampling", section.sampling, "sampling", SAMPLING_NAMES),
        (f"{_OPERATORS}.crossover", section.crossover, "crossover", CROSSOVER_NAMES),
        *(
            (f"{_OPERATORS}.mutations[{place}]", entry, "mutation", MUTATION_NAMES)
            for place, entry in enumerate(mutations)
        ),
    ]


def _use(entry: str | OperatorEntry) -> str:
    return entry if isinstance(entry, str) else entry.use
