"""Fronts side by side: at which inheriting ratios, and which point of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_llm.errors import SelectionError
from nas_llm.front import FrontPoint
from nas_llm.runs import Run

# Ratios between the ends of what all fronts cover, where the runs had no targets in common.
_GRID = 5
# So that a point whose ratio is a target to the last digit lies within it.
_SLACK = 1e-9


@dataclass(frozen=True, kw_only=True)
class Target:
    """An inheriting ratio and the best point of each front at or below it.

    Attributes:
        ratio: The ratio.
        points: One a run.
    """

    ratio: float
    points: tuple[FrontPoint, ...]


def shared_targets(runs: Sequence[Run], ratios: Sequence[float] = ()) -> list[Target]:
    """Where fronts can be compared, the largest ratio first.

    Args:
        runs: The runs.
        ratios: Inheriting ratios; default: the target ratios that all runs were searched at, else five between the
            ends of what all fronts cover, of which none has the points of another one.

    Raises:
        SelectionError: If a ratio is not usable, or fronts have none in common.
    """
    for ratio in ratios:
        if not 0.0 < ratio <= 1.0:
            raise SelectionError(f"inheriting ratio {ratio:g} does not lie in (0, 1]; write e.g. --ratio 0.9,0.8")
    wanted = sorted(set(ratios or _default(runs)), reverse=True)
    found = [Target(ratio=ratio, points=tuple(_best(run, ratio) for run in runs)) for ratio in wanted]
    if ratios:
        return found
    # The smaller ratio, which comes last, says more of the same points.
    return list({tuple(point.id for point in target.points): target for target in found}.values())


def _best(run: Run, ratio: float) -> FrontPoint:
    try:
        return run.front.select(["best"], max_ratio=ratio + _SLACK)[0]
    except SelectionError as error:
        raise SelectionError(f"{run.directory}: {error}; compare at others with --ratio") from error


def _default(runs: Sequence[Run]) -> Sequence[float]:
    covered = [[point.cost.inheriting_ratio for point in run.front.points] for run in runs]
    low, high = max(map(min, covered)), min(map(max, covered))
    if low > high:
        spans = ", ".join(
            f"{run.directory} {min(there):.4f} to {max(there):.4f}" for run, there in zip(runs, covered, strict=True)
        )
        raise SelectionError(f"the fronts have no inheriting ratio in common ({spans}); choose points with --point")
    shared = set.intersection(*(set(run.problem.search.target_ratios) for run in runs))
    reached = [ratio for ratio in shared if ratio + _SLACK >= low]
    # Rounded upwards, so that the point at the lower end lies within.
    return reached or [math.ceil(1e4 * ratio - 1e-6) / 1e4 for ratio in np.linspace(high, low, _GRID)]
