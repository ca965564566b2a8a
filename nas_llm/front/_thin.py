"""Fronts: which points are non-dominated, which few of them to show, where the knee is."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nas_llm.settings import FrontDefaults
from nas_llm.space import FloatArray, IntArray


def non_dominated(objectives: npt.ArrayLike) -> IntArray:
    """Indices of the rows that no other row dominates, ascending; of equal rows only the first.

    Args:
        objectives: ``n x m``, all minimised.
    """
    # Late, as below: reading a front needs neither package.
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    rows = np.asarray(objectives, dtype=np.float64)
    if not len(rows):
        return np.empty(0, dtype=np.int64)
    front = np.sort(NonDominatedSorting().do(rows, only_non_dominated_front=True))
    _, first = np.unique(rows[front], axis=0, return_index=True)
    return np.asarray(front[np.sort(first)], dtype=np.int64)


def thin_front(objectives: npt.ArrayLike, size: int = FrontDefaults.size) -> IntArray:
    """Indices of at most ``size`` points that represent a front, ascending.

    The best point of each objective always stays; of the others, whoever contributes least hypervolume (on
    objectives scaled to the front's own range) leaves first.

    Args:
        objectives: ``n x m`` mutually non-dominated rows, all minimised; quality best on a log scale.
        size: Most points to keep; never fewer than the extremes are kept.
    """
    from moocore import hv_contributions

    rows = np.asarray(objectives, dtype=np.float64)
    kept = np.arange(len(rows))
    if len(rows) <= size:
        return kept
    scaled = _unit(rows)
    extremes = set(scaled.argmin(axis=0).tolist())
    while len(kept) > max(size, len(extremes)):
        contributions = hv_contributions(scaled[kept], ref=np.full(rows.shape[1], 1.1))
        contributions[[index in extremes for index in kept]] = np.inf
        kept = np.delete(kept, contributions.argmin())
    return kept


def knee(objectives: npt.ArrayLike) -> int:
    """Index of the point with the best balance.

    With two objectives, the point farthest below the line between the extremes; with more, the one nearest to the
    ideal point. Both on objectives scaled to the front's own range.

    Args:
        objectives: ``n x m`` mutually non-dominated rows, ``n >= 1``, all minimised; quality best on a log scale.
    """
    scaled = _unit(np.asarray(objectives, dtype=np.float64))
    if scaled.shape[1] == 2:
        # The extremes are (0, 1) and (1, 0) now, so the distance below their line grows as the sum shrinks.
        return int(scaled.sum(axis=1).argmin())
    return int(np.linalg.norm(scaled, axis=1).argmin())


def _unit(rows: FloatArray) -> FloatArray:
    low, high = rows.min(axis=0), rows.max(axis=0)
    return np.asarray((rows - low) / np.where(high > low, high - low, 1.0), dtype=np.float64)
