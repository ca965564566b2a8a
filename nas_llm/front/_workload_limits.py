"""Limits of what points may take for a workload."""

from __future__ import annotations

from nas_llm import display
from nas_llm.front._point import FrontPoint
from nas_llm.front._select import Limit
from nas_llm.workloads import WorkloadPredictor


def workload_limits(
    predictor: WorkloadPredictor, *, max_seconds: float | None = None, max_memory: float | None = None
) -> list[Limit]:
    """Limits for :func:`nas_llm.front.select_points`.

    Args:
        predictor: Knows the workload.
        max_seconds: Most predicted seconds; None = any.
        max_memory: Most predicted bytes; None = any.
    """

    def seconds(point: FrontPoint) -> float:
        return predictor.seconds(point.genome)

    def memory(point: FrontPoint) -> float:
        return predictor.memory(point.genome, point.cost).total

    given = (
        ("max_memory", max_memory, memory, display.size),
        ("max_seconds", max_seconds, seconds, display.latency),
    )
    return [
        Limit(option, limit, value, upper=True, show=show) for option, limit, value, show in given if limit is not None
    ]
