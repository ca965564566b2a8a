"""The one rule of what may differ between a run and its resumption."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_llm.config import Problem, ReconstructionSection

# More budget, another way to report and to finish, the same model in another place or read in another way (its revision
# is compared once it is loaded). Candidates may be evaluated with reconstruction.damping.
_FINISH = tuple(f"reconstruction.{key}" for key in ReconstructionSection.model_fields if key != "damping")
_FREE = ("description", "search.evaluations", "front", "model.source", "model.offload", *_FINISH)


def may_change(key: str) -> bool:
    """Whether a resumption may give a key of the definition another value.

    Args:
        key: Dotted, e.g. ``search.evaluations``.
    """
    return any(key == free or key.startswith(f"{free}.") for free in _FREE)


def free_plugins(problem: Problem) -> tuple[str, ...]:
    """References that may be other code on a resumption: no evaluation depends on how points are finished.

    An export knows the code that its weights came from.

    Args:
        problem: The definition.
    """
    return (problem.reconstruction.method,)


def fixed_part(problem: Problem) -> dict[str, Any]:
    """Everything of a definition that may not change and is not as by default: dotted key to plain value.

    Without defaults, because a key that a later version brings does not make another run of it.
    """
    values = _flat(problem.model_dump(mode="json", exclude_defaults=True))
    return {key: value for key, value in values.items() if not may_change(key)}


def what_changed(before: Problem, after: Problem) -> dict[str, tuple[Any, Any]]:
    """Keys that changed and may not, with both values.

    Args:
        before: The definition that a run was started with.
        after: The one that it is to go on with.
    """
    old, new = (_flat(problem.model_dump()) for problem in (before, after))
    keys = sorted({*old, *new})
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key) and not may_change(key)}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
