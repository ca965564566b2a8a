"""How many children of which kind a generation of the paper's evolution has, and how strongly they are mutated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from nas_llm.config import OperatorEntry, OperatorSection, SearchSection
from nas_llm.errors import ConfigError
from nas_llm.hints import did_you_mean
from nas_llm.settings import MUTATION_NAMES, PaperDefaults
from nas_llm.space import CostConstraints

_CHILDREN = ("mutations", "crossovers", "strong")
_OPERATORS = ("mask_probability", "ratio_probability", "depth_probability")
_SHARED = ("alpha", "temperature", "ratio_step", "transfer_probability")


class _Kind(NamedTuple):
    """What an argument should be."""

    accepts: Callable[[Any], bool]
    meaning: str


_COUNT = _Kind(lambda value: isinstance(value, int) and value >= 0, "a whole number, 0 or more")
_PARENTS = _Kind(lambda value: isinstance(value, int) and value > 0, "a whole number above 0")
_SHARE = _Kind(lambda value: 0.0 <= value <= 1.0, "a number from 0 to 1")
_STEP = _Kind(lambda value: 0.0 < value <= 1.0, "a number above 0 and at most 1")
_TEMPERATURE = _Kind(lambda value: value >= 0.0, "a number, 0 or more, or inf")
_KINDS = {
    **{field.name: _SHARE for field in fields(PaperDefaults)},
    **{name: _COUNT for name in _CHILDREN},
    "parents": _PARENTS,
    "ratio_step": _STEP,
    "temperature": _TEMPERATURE,
}


@dataclass(frozen=True, kw_only=True)
class PaperSchedule:
    """One generation.

    Attributes:
        parents: How many of the best genomes so far have children.
        mutations: Children by mutation.
        crossovers: Children by crossover.
        strong: Children by strong mutation.
        ordinary: Operators of a mutation.
        stronger: Operators of a strong mutation.
    """

    parents: int
    mutations: int
    crossovers: int
    strong: int
    ordinary: OperatorSection
    stronger: OperatorSection


def paper_schedule(section: SearchSection) -> PaperSchedule:
    """The schedule of a search: the paper's, but for what ``search.algorithm_args`` says.

    Numbers of children that are not given are the paper's shares of the population: 50, 30 and 20 of 100. The
    mutations are those of ``[search.operators]`` if it lists any, else depth, ratio and mask; what an entry says of
    itself goes before the schedule.

    Args:
        section: ``[search]``.

    Raises:
        ConfigError: If an argument is unknown or not usable; names it.
    """
    arguments = _checked(section.algorithm_args)
    population = section.population
    shares = dict(zip(_CHILDREN, _split(population, [getattr(PaperDefaults, name) for name in _CHILDREN]), strict=True))
    children = {name: int(arguments.get(name, count)) for name, count in shares.items()}
    # Of a small population two at least, so that there is somebody to cross.
    parents = int(arguments.get("parents", max(2, round(PaperDefaults.parents * population))))
    if not any(children.values()):
        raise ConfigError(f"search.algorithm_args has {', '.join(_CHILDREN)} all 0; give one of them more")
    if parents == 1 and arguments.get("crossovers"):
        raise ConfigError("search.algorithm_args.parents = 1 leaves nobody to cross; give 2 or more, or crossovers = 0")
    return PaperSchedule(
        parents=parents,
        **children,
        ordinary=_operators(section.operators, arguments, prefix=""),
        stronger=_operators(section.operators, arguments, prefix="strong_"),
    )


def check_window(section: SearchSection, constraints: CostConstraints) -> None:
    """Refuse a search for quality alone that has no upper bound of cost, or several targets.

    Raises:
        ConfigError: Says what to give.
    """
    targets = section.target_ratios
    if len(targets) > 1:
        raise ConfigError(
            f"search.algorithm 'paper' searches at one ratio; search.target_ratios has {', '.join(map(str, targets))}: "
            "give one of them"
        )
    if not targets and all(key == "min_ratio" for key, *_ in constraints.bounds):
        raise ConfigError(
            "search.algorithm 'paper' looks at quality alone, so without an upper bound it ends at the dense model; "
            "give one ratio in search.target_ratios, or constraints.max_ratio"
        )


def _checked(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in arguments.items():
        if name not in _KINDS:
            hint = did_you_mean(name, list(_KINDS)) or f"known are {', '.join(_KINDS)}"
            raise ConfigError(f"search.algorithm_args.{name} is unknown for paper; {hint}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        if not is_number or not _KINDS[name].accepts(value):
            raise ConfigError(f"search.algorithm_args.{name} = {value!r} should be {_KINDS[name].meaning}")
    return arguments


def _split(total: int, shares: Sequence[float]) -> list[int]:
    """Whole numbers in these proportions, by largest remainders; their sum is ``total``."""
    wanted = [total * share for share in shares]
    # Products such as 0.3 * 10 are not quite what they should be.
    counts = [math.floor(one + 1e-9) for one in wanted]
    by_remainder = sorted(range(len(shares)), key=lambda place: (round(counts[place] - wanted[place], 9), place))
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts


def _operators(section: OperatorSection, arguments: Mapping[str, Any], *, prefix: str) -> OperatorSection:
    """``[search.operators]`` with the schedule's numbers in it."""
    values = {name: arguments.get(name, getattr(PaperDefaults, name)) for name in _SHARED}
    for name in _OPERATORS:
        values[name] = arguments.get(prefix + name, getattr(PaperDefaults, prefix + name))
    blind = tuple(OperatorEntry(use=name) for name in MUTATION_NAMES if name != "guided")
    return section.model_copy(update={**values, "mutations": section.mutations or blind})
