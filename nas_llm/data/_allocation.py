"""Exact sharing of windows: quotas by weight, disjoint regions by demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_llm.data._tokens import TokenArray


def share(total: int, weights: Sequence[float]) -> list[int]:
    """Split ``total`` items in proportion to positive ``weights`` (largest remainder; ties go to the earlier one).

    Returns:
        As many counts as weights; they sum to ``total`` and differ from the exact share by less than one.
    """
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [int(value) for value in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (counts[i] - exact[i], i))
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def region_rows(available: int, demand: Sequence[int]) -> list[TokenArray]:
    """Rows that each user of a text takes: contiguous regions, evenly spaced rows in them.

    Args:
        available: Rows there are, at least ``sum(demand)``.
        demand: Rows wanted by each user, in the order of their regions.

    Returns:
        One increasing index array a user; no index stands in two of them.
    """
    total = sum(demand)
    rows: list[TokenArray] = []
    served = 0
    for count in demand:
        low = available * served // max(total, 1)
        high = available * (served + count) // max(total, 1)
        served += count
        steps = np.arange(count, dtype=np.int64)
        rows.append(low + (2 * steps + 1) * (high - low) // (2 * max(count, 1)))
    return rows
