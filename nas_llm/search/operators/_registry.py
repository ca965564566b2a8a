"""Operators by name, and how they are made from a definition."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nas_llm.errors import ConfigError, NasLlmError, first_line
from nas_llm.hints import did_you_mean
from nas_llm.plugins import Registry
from nas_llm.search.operators._base import Crossover, Mutation, OperatorContext, Sampling
from nas_llm.search.operators._crossover import LayerwiseCrossover
from nas_llm.search.operators._depth import DepthMutation
from nas_llm.search.operators._guided import GuidedMutation
from nas_llm.search.operators._mask import MaskMutation
from nas_llm.search.operators._ratio import RatioMutation
from nas_llm.search.operators._sampling import ImportanceSampling

Operator = TypeVar("Operator", Mutation, Crossover, Sampling)


def _of(base: type) -> Callable[[Any], Any]:
    def accept(found: Any) -> Any:
        kind = found.func if isinstance(found, functools.partial) else found
        if not (isinstance(kind, type) and issubclass(kind, base)):
            raise TypeError(f"is no subclass of nas_llm.search.{base.__name__}")
        if inspect.isabstract(kind):
            missing = ", ".join(sorted(getattr(kind, "__abstractmethods__", ())))
            raise TypeError(f"does not say how it works: it lacks {missing}")
        return found

    return accept


MUTATIONS: Registry[Callable[..., Mutation]] = Registry("mutation", _of(Mutation))
CROSSOVERS: Registry[Callable[..., Crossover]] = Registry("crossover", _of(Crossover))
SAMPLINGS: Registry[Callable[..., Sampling]] = Registry("sampling", _of(Sampling))
for _name, _kind in (
    ("guided", GuidedMutation),
    ("depth", DepthMutation),
    ("ratio", RatioMutation),
    ("mask", MaskMutation),
):
    MUTATIONS.add(_name, _kind)
for _name in ("uniform", "one_point"):
    CROSSOVERS.add(_name, functools.partial(LayerwiseCrossover, _name))
SAMPLINGS.add("importance", ImportanceSampling)


def register_mutation(name: str) -> Callable[[type[Mutation]], type[Mutation]]:
    """Class decorator: definitions may name the mutation by ``name``."""
    return MUTATIONS.register(name)


def register_crossover(name: str) -> Callable[[type[Crossover]], type[Crossover]]:
    """Class decorator: definitions may name the crossover by ``name``."""
    return CROSSOVERS.register(name)


def register_sampling(name: str) -> Callable[[type[Sampling]], type[Sampling]]:
    """Class decorator: definitions may name the sampling by ``name``."""
    return SAMPLINGS.register(name)


def settable(kind: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Constructor arguments that are settings, not parts of the search."""
    context = {*OperatorContext.__dataclass_fields__, "architecture"}
    return {name: parameter for name, parameter in inspect.signature(kind).parameters.items() if name not in context}


def check_settings(kind: Callable[..., Any], settings: Mapping[str, Any], *, use: str, where: str) -> None:
    """Refuse settings that an operator does not have, and the want of those that it must have.

    Raises:
        ConfigError: Names the key.
    """
    known = settable(kind)
    free = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    names = [name for name, parameter in known.items() if parameter.kind is not parameter.VAR_KEYWORD]
    for name in settings:
        if name not in names and not free:
            hint = did_you_mean(name, names) or (f"known are {', '.join(names)}" if names else "it has no settings")
            raise ConfigError(f"{where}.{name} is unknown for {use}; {hint}")
    for name in names:
        if known[name].default is inspect.Parameter.empty and name not in settings:
            raise ConfigError(f"{where}.{name} is missing: {use} cannot do without it")


def make_operator(
    kind: Callable[..., Operator], context: OperatorContext, settings: Mapping[str, Any], *, use: str, where: str
) -> Operator:
    """Make an operator: what it asks of the search by name, and its settings.

    Args:
        kind: Its class.
        context: The search.
        settings: Its settings.
        use: What the definition calls it.
        where: The key that names it.

    Raises:
        ConfigError: If a setting is unknown, missing or not usable.
    """
    check_settings(kind, settings, use=use, where=where)
    parameters = inspect.signature(kind).parameters
    given = {name: getattr(context, name) for name in parameters if name not in settable(kind)}
    try:
        return kind(**given, **settings)
    except NasLlmError as error:
        raise ConfigError(f"{where}: {error}") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {use} cannot be made: {first_line(error)}") from error
