"""Optuna's samplers and pruners by name."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_llm.errors import StudyError, first_line
from nas_llm.hints import did_you_mean
from nas_llm.studies._optuna import late_imports
from nas_llm.studies.definition import ParameterSection, StudyDefinition, is_integer

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# What a definition file cannot say.
_NO_FILE = {"partialfixed"}
_MOST_POINTS = 1_000_000
_PLAIN: dict[str, Any] = {
    "bool": bool,
    "int": int,
    "float": (int, float),
    "str": str,
    "dict": Mapping,
    "Mapping": Mapping,
}


def build_sampler(definition: StudyDefinition, *, slot: int = 0) -> BaseSampler:
    """The sampler of a study, for one of its trials.

    Samplers keep what they learn in the storage. A new one for each trial, seeded by the study and the trial's slot,
    suggests the same whichever process runs the trial, and never the same for two of them. ``grid`` and
    ``brute_force`` are no such samplers: see :func:`every_point`.

    Raises:
        StudyError: If the name or an argument is unknown, or a package is missing.
    """
    import optuna

    section, kind = definition.sampler, _sampler_kind(definition)
    arguments = dict(section.args)
    known = inspect.signature(kind).parameters
    if "seed" in known:
        # The points of a quasi-random sequence are numbered in the storage; all must come from the same one.
        arguments.setdefault("seed", definition.seed + (0 if kind is optuna.samplers.QMCSampler else slot))
    if kind is optuna.samplers.GridSampler:
        arguments.setdefault("search_space", {key: _axis(key, s) for key, s in definition.parameters.items()})
    if len(definition.objectives) > 1 and kind is optuna.samplers.CmaEsSampler:
        raise StudyError(f"sampler {section.name} takes one objective; the study has {len(definition.objectives)}")
    sampler: BaseSampler = _build("sampler", section.name, kind, arguments)
    # Optuna counts baselines among the points of a grid, and each of its processes only what it has seen itself.
    return optuna.samplers.RandomSampler(seed=definition.seed) if _takes_every_point(kind) else sampler


def every_point(definition: StudyDefinition) -> tuple[dict[str, Any], ...] | None:
    """All combinations of the parameters in the order in which ``grid`` and ``brute_force`` run them.

    The same in every process: it depends on the definition alone. None for samplers that suggest.

    Raises:
        StudyError: If there is no end of combinations, or ``search_space`` does not name the study's parameters.
    """
    section, kind = definition.sampler, _sampler_kind(definition)
    if not _takes_every_point(kind):
        return None
    axes: Mapping[str, Sequence[Any]] = section.args.get("search_space") or {
        key: _axis(key, each, section.name) for key, each in definition.parameters.items()
    }
    wrong = sorted(set(axes) ^ set(definition.parameters)) or [key for key, values in axes.items() if not values]
    if wrong:
        raise StudyError(
            f"sampler.args.search_space must have values of every parameter and of nothing else; look at {wrong[0]}"
        )
    count = math.prod(len(values) for values in axes.values())
    if count > _MOST_POINTS:
        raise StudyError(
            f'sampler "{section.name}" would have {count:,} combinations to run; take larger steps or another sampler'
        )
    points = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    seed = section.args.get("seed", definition.seed)
    return tuple(points[int(index)] for index in np.random.default_rng(seed).permutation(count))


def build_pruner(definition: StudyDefinition) -> BasePruner:
    """The pruner of a study; none where it has two objectives, which Optuna cannot prune.

    Raises:
        StudyError: If the name or an argument is unknown, a package is missing, or it could never prune.
    """
    import optuna

    section = definition.pruner
    kinds = _kinds(optuna.pruners, optuna.pruners.BasePruner, "Pruner") | {"none": optuna.pruners.NopPruner}
    kind = _find("pruner", section.name, kinds)
    arguments = dict(section.args)
    if len(definition.objectives) > 1:
        return optuna.pruners.NopPruner()
    if kind is optuna.pruners.PatientPruner:
        arguments.setdefault("wrapped_pruner", None)
    if kind is optuna.pruners.HyperbandPruner:
        # Its resource is the number of evaluations.
        arguments.setdefault("min_resource", definition.steps[0])
        arguments.setdefault("max_resource", definition.evaluations)
    if kind is optuna.pruners.SuccessiveHalvingPruner:
        arguments.setdefault("min_resource", definition.steps[0])
    pruner: BasePruner = _build("pruner", section.name, kind, arguments)
    if kind is optuna.pruners.WilcoxonPruner:
        _check_seeds(definition, **arguments)
    return pruner


def _check_seeds(definition: StudyDefinition, *, p_threshold: float = 0.1, n_startup_steps: int = 2) -> None:
    """Refuse the Wilcoxon pruner where it has too few seeds: after n of them its p-value is 0.5^n at least."""
    name, seeds = definition.pruner.name, len(definition.seeds)
    if p_threshold <= 0:
        raise StudyError(f'pruner "{name}" prunes below p_threshold = {p_threshold:g}, which nothing is; raise it')
    first = max(2, n_startup_steps, math.floor(-math.log2(p_threshold)) + 1)
    if seeds <= first:
        raise StudyError(
            f'pruner "{name}" could never save a search: it compares trials seed by seed, and its p-value, at least '
            f"0.5^n after n seeds, is below p_threshold = {p_threshold:g} after {first} at the earliest; give "
            f"{first + 1} seeds or more (now {seeds}), or take another pruner"
        )


def _sampler_kind(definition: StudyDefinition) -> Any:
    import optuna

    kinds = _kinds(optuna.samplers, optuna.samplers.BaseSampler, "Sampler")
    return _find("sampler", definition.sampler.name, kinds)


def _takes_every_point(kind: Any) -> bool:
    import optuna

    return kind in (optuna.samplers.GridSampler, optuna.samplers.BruteForceSampler)


def _kinds(module: Any, base: type, suffix: str) -> dict[str, Any]:
    found = {}
    for name in module.__all__:
        kind = getattr(module, name)
        if isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind):
            found[name.removesuffix(suffix).lower()] = kind
    return {name: kind for name, kind in found.items() if name not in _NO_FILE}


def _find(what: str, name: str, kinds: Mapping[str, Any]) -> Any:
    plain = name.lower().replace("_", "").replace("-", "").removesuffix(what)
    if plain not in kinds:
        hint = did_you_mean(plain, kinds, after=" ")
        raise StudyError(f'{what} "{name}" is unknown; {hint}known are {", ".join(sorted(kinds))}')
    return kinds[plain]


def _build(what: str, name: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
    missing = [package for package in late_imports(kind) if importlib.util.find_spec(package) is None]
    if missing:
        raise StudyError(f'{what} "{name}" needs a package: pip install {" ".join(missing)}')
    known = [key for key in inspect.signature(kind).parameters if key != "kwargs"]
    for key in arguments:
        if key not in known:
            hint = did_you_mean(key, known) or f"known are {', '.join(known)}"
            raise StudyError(f'{what}.args.{key} is no argument of "{name}"; {hint}')
        _check_type(f"{what}.args.{key}", arguments[key], inspect.signature(kind).parameters[key].annotation)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise StudyError(f'{what} "{name}" cannot be used with these arguments: {first_line(error)}') from error


def _check_type(where: str, value: Any, annotation: Any) -> None:
    """Refuse what Optuna would stumble over in the middle of a study."""
    if value is None:
        return
    text = annotation if isinstance(annotation, str) else annotation.__name__
    names = {part.strip().partition("[")[0] for part in text.split("|")}
    wanted = {name: kinds for name, kinds in _PLAIN.items() if name in names}
    if not wanted:
        raise StudyError(f"{where} takes an object of Python, which a definition cannot name; leave it out")
    # True and False are whole numbers to Python.
    if not any(isinstance(value, kinds) and isinstance(value, bool) <= (kinds is bool) for kinds in wanted.values()):
        raise StudyError(f"{where} = {value!r} should be {' or '.join(wanted)}")


def _axis(key: str, section: ParameterSection, sampler: str = "grid") -> list[Any]:
    if section.choices is not None:
        return list(section.choices)
    assert section.low is not None
    assert section.high is not None
    whole = is_integer(key, section)
    step = section.step or (1 if whole else None)
    if step is None:
        raise StudyError(f"the {sampler} sampler needs a step for parameters.{key}")
    count = int((section.high - section.low) / step + 1e-9) + 1
    values = (section.low + index * step for index in range(count))
    return [round(value) if whole else float(value) for value in values]
