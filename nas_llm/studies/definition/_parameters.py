"""Which keys of a problem a study may tune, and whether their ranges make sense."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from nas_llm.config import FitnessSection, OperatorSection, Problem, SearchSection
from nas_llm.errors import ConfigError
from nas_llm.hints import meant, nearest
from nas_llm.studies.definition._definition import ParameterSection
from nas_llm.studies.definition._settings import with_settings

if TYPE_CHECKING:
    from optuna.trial import Trial

# The budget is the study's own, and a search that starts from found subnets says nothing about a fresh one; the others
# are lists or whole sections.
_NOT_TUNABLE = ("evaluations", "start_from", "target_ratios", "descent", "operators", "algorithm_args")
ARGUMENTS = "search.algorithm_args."
WINDOWS = "data.fitness.tokens"


def tunable_keys() -> tuple[str, ...]:
    """The dotted keys that may stand under ``[parameters]``; ``search.algorithm_args.*`` may, too."""
    return tuple(_fields())


def check_parameters(parameters: Mapping[str, ParameterSection], problem: Problem) -> None:
    """Refuse ranges that are empty or hold values that the problem does not take.

    Raises:
        ConfigError: If there are any; names the key.
    """
    kinds = _fields()
    for key, section in parameters.items():
        if key not in kinds and not key.startswith(ARGUMENTS):
            raise ConfigError(f'unknown hyperparameter "{key}"; {_hint(key)}')
        _check_range(key, section, kinds.get(key))
        for value in ends(section):
            if key == WINDOWS and value > problem.data.fitness.tokens:
                raise ConfigError(
                    f"parameters.{key}: {value} is more than the problem's own {problem.data.fitness.tokens}, on which "
                    f"fronts are compared"
                )
            with_settings(problem, {key: value}, where=f"parameters.{key}")


def ends(section: ParameterSection) -> tuple[Any, ...]:
    """All choices, or both ends of the range."""
    return section.choices if section.choices is not None else (section.low, section.high)


def suggest(trial: Trial, parameters: Mapping[str, ParameterSection]) -> dict[str, Any]:
    """Ask a trial for a value of each parameter."""
    return {key: _suggest_one(trial, key, section) for key, section in parameters.items()}


def _suggest_one(trial: Trial, key: str, section: ParameterSection) -> Any:
    if section.choices is not None:
        return trial.suggest_categorical(key, section.choices)
    assert section.low is not None
    assert section.high is not None
    if is_integer(key, section):
        low, high = int(section.low), int(section.high)
        return trial.suggest_int(key, low, high, step=int(section.step or 1), log=section.log)
    step = None if section.step is None else float(section.step)
    return trial.suggest_float(key, float(section.low), float(section.high), step=step, log=section.log)


def nearest_inside(key: str, section: ParameterSection, value: Any) -> Any:
    """The value of a range that is nearest to one which may lie outside of it."""
    if section.choices is not None:
        return value if value in section.choices else section.choices[0]
    assert section.low is not None
    assert section.high is not None
    inside = min(max(float(value), float(section.low)), float(section.high))
    if section.step is not None:
        inside = section.low + round((inside - section.low) / section.step) * section.step
        inside = min(inside, float(section.high))
    return round(inside) if is_integer(key, section) else float(inside)


def _check_range(key: str, section: ParameterSection, kind: Any) -> None:
    where = f"parameters.{key}"
    low, high, step = section.low, section.high, section.step
    if section.choices is not None:
        if (low, high, step, section.log) != (None, None, None, False):
            raise ConfigError(f"{where} has choices and a range; give one of them")
        if not section.choices:
            raise ConfigError(f"{where} has an empty range: choices = []")
        return
    if low is None or high is None:
        raise ConfigError(f"{where} needs low and high, or choices")
    if kind in (bool, str):
        raise ConfigError(
            f"{where} is {'true or false' if kind is bool else 'a name'}; give choices instead of a range"
        )
    if low > high:
        raise ConfigError(f"{where} has an empty range: low {low} is above high {high}")
    if step is not None and (step <= 0 or section.log):
        raise ConfigError(f"{where}: step {step} must be above 0, and goes without log")
    if section.log and low <= 0:
        raise ConfigError(f"{where}: a logarithmic range must begin above 0, got low {low}")
    if kind is int and not all(isinstance(value, int) for value in (low, high, step) if value is not None):
        raise ConfigError(f"{where} is a whole number; its range has low {low}, high {high}, step {step}")


def is_integer(key: str, section: ParameterSection) -> bool:
    """Whether the values of a range are whole numbers."""
    kind = _fields().get(key)
    if kind is None:
        return all(isinstance(value, int) for value in (section.low, section.high, section.step) if value is not None)
    return kind is int


def _fields() -> dict[str, Any]:
    sections: tuple[tuple[str, type[BaseModel]], ...] = (
        ("search", SearchSection),
        ("search.operators", OperatorSection),
        ("fitness", FitnessSection),
    )
    return {f"{path}.{name}": kind for path, model in sections for name, kind in _kinds(model)} | {WINDOWS: int}


def _kinds(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        if name not in _NOT_TUNABLE:
            yield name, field.annotation if field.annotation in (bool, int, float) else str


def _hint(key: str) -> str:
    known = tunable_keys()
    by_leaf = {name.rpartition(".")[2]: name for name in known}
    close = nearest(key, known, cutoff=0.75) or by_leaf.get(nearest(key.rpartition(".")[2], by_leaf, cutoff=0.6) or "")
    return meant(close) if close else f"known are {', '.join(known)}, {ARGUMENTS}*"
