"""Values of ``[reconstruction]`` that are one of several kinds, with messages of their own.

pydantic would report each kind that a value is not, and hide what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ValidationInfo

from nas_llm.config._messages import shown
from nas_llm.hints import did_you_mean
from nas_llm.plugins import is_reference, load_entry_points, registered, unknown_name
from nas_llm.settings import FINISHING_KIND, FINISHING_METHODS, several


def _method(value: Any) -> Any:
    if isinstance(value, str) and (value in FINISHING_METHODS or is_reference(value)):
        return value
    broken = load_entry_points()
    names = (*FINISHING_METHODS, *(name for name in registered(FINISHING_KIND) if name not in FINISHING_METHODS))
    if value in names:
        return value
    raise ValueError(unknown_name(str(value), names, where="reconstruction.method", broken=broken))


def _numbers(value: Any, fits: Callable[[float], bool]) -> float | tuple[float, ...] | None:
    """A number, or a list of them, that all fit; None for anything else."""
    numbers = value if isinstance(value, list | tuple) else [value]
    if not numbers or not all(type(number) in (int, float) and fits(number) for number in numbers):
        return None
    return several(value) if isinstance(value, list | tuple) else float(value)


def _damping(value: Any) -> Any:
    found = _numbers(value, lambda number: number > 0)
    if found is None:
        raise ValueError(f"reconstruction.damping = {shown(value)} should be a number above 0, or a list of such")
    if min(several(found)) == inf:
        raise ValueError("reconstruction.damping = inf keeps all weights; add a finite one, or take method none")
    return found


def _share(value: Any, info: ValidationInfo) -> Any:
    found = _numbers(value, lambda number: 0 < number <= 1)
    if found is None:
        name = f"reconstruction.{info.field_name}"
        raise ValueError(f"{name} = {shown(value)} should be a number above 0 and at most 1, or a list of such")
    return found


def _target(value: Any) -> Any:
    names = ("residual", "sublayer")
    if value in names or (type(value) in (int, float) and 0 <= value <= 1):
        return value
    hint = did_you_mean(str(value), names, 0.4, after=" ")
    raise ValueError(
        f"reconstruction.target = {shown(value)} is not known; "
        f"{hint}known are {', '.join(names)} and numbers from 0 to 1"
    )


Method = Annotated[str, BeforeValidator(_method)]
Damping = Annotated[float | tuple[float, ...], BeforeValidator(_damping)]
Share = Annotated[float | tuple[float, ...], BeforeValidator(_share)]
Target = Annotated[Literal["residual", "sublayer"] | float, BeforeValidator(_target)]
