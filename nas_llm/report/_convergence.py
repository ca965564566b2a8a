"""Hypervolume over the generations of one search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nas_llm.report._history_row import HistoryRow
from nas_llm.search.engine import normalised_hypervolume


def hypervolumes(rows: Sequence[HistoryRow], objectives: Sequence[str], dense: Mapping[str, float]) -> dict[int, float]:
    """Generation to the normalised hypervolume of all genomes that were evaluated by its end.

    Args:
        rows: Every evaluated genome.
        objectives: The names of the objectives.
        dense: Objectives of the dense model.

    Returns:
        One entry a generation, ascending.
    """
    reached = {}
    for generation in sorted({row.generation for row in rows}):
        values = [[row.objectives[name] for name in objectives] for row in rows if row.generation <= generation]
        reached[generation] = normalised_hypervolume(values, objectives, dense)
    return reached
