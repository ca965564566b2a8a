"""Choosing points of a front: by id, knee, ratio, or what a subnet may cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from nas_llm.errors import SelectionError
from nas_llm.front._point import FrontPoint


class Selectable(Protocol):
    """What of a front is needed to choose points of it; :class:`nas_llm.front.Front` has it."""

    @property
    def problem(self) -> str:
        """Name of the problem."""

    @property
    def quality(self) -> str:
        """The measured objective."""

    @property
    def points(self) -> Sequence[FrontPoint]:
        """The points."""


class Limit(NamedTuple):
    """What a point may cost.

    Attributes:
        option: What it is called.
        limit: The bound.
        value: The cost of a point.
        upper: Whether it is the most; else it is the least.
        show: A cost for a person.
    """

    option: str
    limit: float
    value: Callable[[FrontPoint], float]
    upper: bool = True
    show: Callable[[float], str] = "{:.6g}".format

    def met(self, point: FrontPoint) -> bool:
        """Whether a point keeps it."""
        return self.value(point) <= self.limit if self.upper else self.value(point) >= self.limit


def select_points(
    front: Selectable,
    point: Sequence[str] = (),
    *,
    max_macs: float | None = None,
    max_params: float | None = None,
    min_ratio: float | None = None,
    max_ratio: float | None = None,
    limits: Sequence[Limit] = (),
) -> list[FrontPoint]:
    """Choose points of a front.

    Args:
        front: The front.
        point: Any of an id (``"p03"``), ``"knee"``, ``"all"`` (every point within the bounds), ``"best"`` (lowest
            perplexity within the bounds), ``"smallest"`` (lowest ratio within the bounds) and ``"ratio=0.8"`` (the
            point within the bounds whose inheriting ratio is nearest and that was not chosen before it).
        max_macs: Most MACs per token.
        max_params: Most parameters.
        min_ratio: Least inheriting ratio.
        max_ratio: Most inheriting ratio.
        limits: Further bounds.

    Returns:
        The chosen points in the order asked for, none twice. Without ``point``: the best one within all upper bounds if
        there are any, else the smallest one within ``min_ratio``, else the knee.

    Raises:
        SelectionError: If a name is unknown or nothing lies within the bounds.
    """
    bounds = [
        Limit(option, limit, value, upper)
        for option, limit, value, upper in (
            ("max_macs", max_macs, lambda p: p.cost.macs_per_token, True),
            ("max_params", max_params, lambda p: p.cost.params, True),
            ("min_ratio", min_ratio, lambda p: p.cost.inheriting_ratio, False),
            ("max_ratio", max_ratio, lambda p: p.cost.inheriting_ratio, True),
        )
        if limit is not None
    ]
    bounds += limits
    allowed = _within(front, bounds)
    if not point:
        point = ["best"] if any(bound.upper for bound in bounds) else ["smallest"] if bounds else ["knee"]
    chosen: list[FrontPoint] = []
    for name in point:
        for found in _named(name, front, allowed, chosen):
            for bound in bounds:
                if not bound.met(found):
                    raise SelectionError(
                        f"point {found.id} has {bound.show(bound.value(found))}, which is outside of {bound.option} "
                        f"{bound.show(bound.limit)}; drop one of the two"
                    )
            if found not in chosen:
                chosen.append(found)
    return chosen


def _within(front: Selectable, bounds: Sequence[Limit]) -> list[FrontPoint]:
    if not front.points:
        raise SelectionError(f"the front of {front.problem} has no points")
    allowed = list(front.points)
    for bound in bounds:
        kept = [point for point in allowed if bound.met(point)]
        if not kept:
            values = [bound.value(point) for point in allowed]
            word, nearest = ("smallest", min(values)) if bound.upper else ("largest", max(values))
            raise SelectionError(
                f"no point of the front lies within {bound.option} {bound.show(bound.limit)}; the {word} there is "
                f"{bound.show(nearest)}{_beside(bounds[: bounds.index(bound)])}"
            )
        allowed = kept
    return allowed


def _beside(met: Sequence[Limit]) -> str:
    """Which bounds the points that are left keep, if any were asked for before."""
    return f" among those within {', '.join(bound.option for bound in met)}" if met else ""


def _named(
    name: str, front: Selectable, allowed: Sequence[FrontPoint], chosen: Sequence[FrontPoint]
) -> Sequence[FrontPoint]:
    match name:
        case "all":
            return allowed
        case "best":
            return [min(allowed, key=lambda point: _quality(point, front))]
        case "smallest":
            return [min(allowed, key=lambda point: point.cost.inheriting_ratio)]
    if name.startswith("ratio="):
        target = _ratio(name)
        free = [point for point in allowed if point not in chosen]
        return [min(free, key=lambda point: abs(point.cost.inheriting_ratio - target))] if free else []
    found = [point for point in front.points if (point.knee if name == "knee" else point.id == name)]
    if not found:
        ids = ", ".join(point.id for point in front.points)
        raise SelectionError(f"the front has no point {name!r}; take knee, best, smallest, all, ratio=0.8 or {ids}")
    return found[:1]


def _quality(point: FrontPoint, front: Selectable) -> float:
    if point.held_out_perplexity is not None:
        return point.held_out_perplexity
    return point.objectives[front.quality]


def _ratio(name: str) -> float:
    text = name.removeprefix("ratio=")
    try:
        target = float(text)
    except ValueError:
        target = 0.0
    if not 0.0 < target <= 1.0:
        raise SelectionError(f"point {name!r} needs a number in (0, 1] behind ratio=, e.g. ratio=0.8")
    return target
