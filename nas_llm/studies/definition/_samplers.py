"""Optuna's samplers and pruners by name."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_llm.errors import StudyError, first_line
from nas_llm.hints import nearest
from nas_llm.studies.definition._definition import ParameterSection, StudyDefinition

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

# What a definition file cannot say.
_NO_FILE = {"partialfixed"}


def build_sampler(definition: StudyDefinition, *, slot: int = 0) -> BaseSampler:
    """The sampler of a study, for one of its trials.

    Samplers keep what they learn in the storage. A new one for each trial, seeded by the study and the trial's slot,
    suggests the same whichever process runs the trial, and never the same for two of them.

    Raises:
        StudyError: If the name or an argument is unknown.
    """
    import optuna

    section = definition.sampler
    kinds = _kinds(optuna.samplers, optuna.samplers.BaseSampler, "Sampler")
    kind = _find("sampler", section.name, kinds)
    arguments = dict(section.args)
    known = inspect.signature(kind).parameters
    if "seed" in known:
        # The points of a quasi-random sequence are numbered in the storage; all must come from the same one.
        arguments.setdefault("seed", definition.seed + (0 if section.name == "qmc" else slot))
    if kind is optuna.samplers.GridSampler:
        arguments.setdefault("search_space", {key: _grid(key, s) for key, s in definition.parameters.items()})
    if len(definition.objectives) > 1 and section.name == "cmaes":
        raise StudyError(f"sampler {section.name} takes one objective; the study has {len(definition.objectives)}")
    sampler: BaseSampler = _build("sampler", section.name, kind, arguments)
    return sampler


def build_pruner(definition: StudyDefinition) -> BasePruner:
    """The pruner of a study; none where it has two objectives, which Optuna cannot prune.

    Raises:
        StudyError: If the name or an argument is unknown.
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
    return pruner


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
        close = nearest(plain, kinds, cutoff=0.5)
        hint = f'did you mean "{close}"? ' if close else ""
        raise StudyError(f'{what} "{name}" is unknown; {hint}known are {", ".join(sorted(kinds))}')
    return kinds[plain]


def _build(what: str, name: str, kind: Any, arguments: Mapping[str, Any]) -> Any:
    known = [key for key in inspect.signature(kind).parameters if key != "kwargs"]
    for key in arguments:
        if key not in known:
            close = nearest(key, known, cutoff=0.5)
            hint = f'did you mean "{close}"?' if close else f"known are {', '.join(known)}"
            raise StudyError(f'{what}.args.{key} is no argument of "{name}"; {hint}')
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return kind(**arguments)
    except (TypeError, ValueError, ImportError) as error:
        raise StudyError(f'{what} "{name}" cannot be used with these arguments: {first_line(error)}') from error


def _grid(key: str, section: ParameterSection) -> list[Any]:
    if section.choices is not None:
        return list(section.choices)
    if section.step is None or section.low is None or section.high is None:
        raise StudyError(f"the grid sampler needs a step for parameters.{key}")
    count = int((section.high - section.low) / section.step + 1e-9) + 1
    return [section.low + index * section.step for index in range(count)]
