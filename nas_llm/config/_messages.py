"""What pydantic found wrong, said in one line with dotted paths and the nearest valid name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from nas_llm.hints import did_you_mean, meant


class Fault(NamedTuple):
    """One thing that is wrong; ``path`` is the dotted key, empty where several keys contradict each other."""

    path: str
    message: str


def faults(error: ValidationError, model: type[BaseModel], data: Any) -> list[Fault]:
    """Every fault once, in the order of the model's fields.

    Args:
        error: What validating ``data`` raised.
        model: The root model.
        data: The plain data that was validated.
    """
    found: dict[str, Fault] = {}
    for detail in error.errors(include_url=False):
        location = _existing(detail["loc"], data, detail["type"])
        fault = _fault(detail, location, model)
        # The members of a union each report the same value.
        found.setdefault(fault.path or fault.message, fault)
    # A list whose items are wrong is also reported as too short.
    return [fault for fault in found.values() if not any(path.startswith(f"{fault.path}[") for path in found)]


def _fault(detail: ErrorDetails, location: Sequence[int | str], model: type[BaseModel]) -> Fault:
    path, value = _dotted(location), detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            return Fault(path, f'unknown key "{path}"; {_key_hint(location, model)}')
        case "missing":
            return Fault(path, f'"{path}" is missing')
        case "value_error":
            # An entry of a list does not know its place; whole sections name their keys.
            place = f"{path}: " if location and isinstance(location[-1], int) else ""
            return Fault("", f"{place}{detail['ctx']['error']}")
        case "literal_error":
            return Fault(path, f"{path} = {shown(value)} is not known; {_choice_hint(str(value), location, model)}")
        case "unknown_name":
            hint = did_you_mean(str(value), detail["ctx"]["known"], 0.4)
            known = ", ".join(detail["ctx"]["known"])
            return Fault(path, f"{path} = {shown(value)} is not known; {hint}{' ' if hint else ''}known are {known}")
        case "model_type" | "dict_type":
            return Fault(path, f"{path} = {shown(value)} should be a section, [{path}]")
        case "tuple_type":
            expected = "should be a list"
        case "too_short":
            expected = f"should have at least {detail['ctx']['min_length']} item"
        case _ if len(location) < len(detail["loc"]):
            expected = "should be one number, string, true or false"
        case _:
            expected = detail["msg"].removeprefix("Input ").removeprefix("String ").partition(", ")[0]
    return Fault(path, f"{path} = {shown(value)} {expected}")


def _existing(location: tuple[int | str, ...], data: Any, kind: str) -> tuple[int | str, ...]:
    """Cut off what pydantic appends to a path, such as the member of a union that was tried."""
    if kind == "missing":
        return location
    for depth, step in enumerate(location):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            return location[:depth]
    return location


def _dotted(location: Sequence[int | str]) -> str:
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location).lstrip(".")


def shown(value: Any) -> str:
    """A value as in a definition, cut if it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _key_hint(location: Sequence[int | str], model: type[BaseModel]) -> str:
    *parents, leaf = location
    section = _model_at(parents, model)
    if section is None:
        return "no keys are allowed here"
    names = list(section.model_fields)
    prefix = f"{_dotted(parents)}." if parents else ""
    elsewhere = [path for path in _all_keys(model) if path.rpartition(".")[2] == leaf]
    return (
        did_you_mean(str(leaf), names, 0.6, prefix=prefix)
        or (meant(elsewhere[0]) if elsewhere else "")
        or did_you_mean(str(leaf), names, 0.4, prefix=prefix)
        or f"known are {', '.join(prefix + name for name in names)}"
    )


def _choice_hint(value: str, location: Sequence[int | str], model: type[BaseModel]) -> str:
    *parents, leaf = [step for step in location if isinstance(step, str)]
    section = _model_at(parents, model)
    choices = [] if section is None else _strings(section.model_fields[leaf].annotation)
    return f"{did_you_mean(value, choices, 0.4, after=' ')}known are {', '.join(choices)}"


def _strings(annotation: Any) -> list[str]:
    arguments = get_args(annotation)
    found = [a for a in arguments if isinstance(a, str)] or [s for a in arguments for s in _strings(a)]
    return list(dict.fromkeys(found))


def _model_at(location: Iterable[int | str], model: type[BaseModel]) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for step in location:
        if isinstance(step, int):
            continue
        if current is None or step not in current.model_fields:
            return None
        current = _model_of(current.model_fields[step].annotation)
    return current


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _model_of(a)) is not None), None)


def _all_keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _model_of(field.annotation)
        if inner is not None:
            yield from _all_keys(inner, f"{prefix}{name}.")
