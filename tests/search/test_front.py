from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.search import knee, non_dominated, normalised_hypervolume, search_scale, thin_front

NAMES = ("perplexity", "macs_per_token")
DENSE = {"perplexity": 10.0, "macs_per_token": 1000.0, "params": 50.0}
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@settings(max_examples=100, deadline=None)
@given(POINTS, st.integers(2, 3))
def test_front_equals_brute_force(points: list[tuple[int, int, int]], width: int) -> None:
    rows = np.array(points, dtype=float)[:, :width]

    def beaten(i: int) -> bool:
        return any(
            ((other <= rows[i]).all() and (other < rows[i]).any()) or (j < i and (other == rows[i]).all())
            for j, other in enumerate(rows)
        )

    assert non_dominated(rows).tolist() == [i for i in range(len(rows)) if not beaten(i)]


def test_front_of_nothing_is_empty() -> None:
    assert non_dominated([]).tolist() == []


def brute_hypervolume(boxes: np.ndarray, reference: np.ndarray) -> float:
    """Volume of a union of boxes from each point to the reference, by inclusion and exclusion."""
    boxes = boxes[(boxes < reference).all(axis=1)]
    total = 0.0
    for size in range(1, len(boxes) + 1):
        for chosen in combinations(boxes, size):
            total -= (-1) ** size * float(np.prod(reference - np.max(chosen, axis=0)))
    return total


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(8.0, 300.0), st.floats(100.0, 1100.0), st.floats(5.0, 60.0)), min_size=1, max_size=6),
    st.booleans(),
)
def test_hypervolume_equals_brute_force(points: list[tuple[float, float, float]], three: bool) -> None:
    names = (*NAMES, "params") if three else NAMES
    rows = np.array(points)[:, : len(names)]
    scaled = rows / np.array([1.0, 1000.0, 50.0])[: len(names)]
    scaled[:, 0] = np.maximum(np.log(rows[:, 0] / 10.0) / np.log(20.0), 0.0)
    reference = np.array([1.0, 1.01, 1.01])[: len(names)]
    expected = brute_hypervolume(scaled, reference) / reference.prod()
    assert normalised_hypervolume(rows, names, DENSE) == pytest.approx(expected, abs=1e-12)


def test_hypervolume_has_fixed_ends() -> None:
    assert normalised_hypervolume([], NAMES, DENSE) == 0.0
    assert normalised_hypervolume([[10.0, 0.0]], NAMES, DENSE) == pytest.approx(1.0)
    assert normalised_hypervolume([[1.0, 0.0]], NAMES, DENSE) == pytest.approx(1.0)
    assert normalised_hypervolume([[200.0, 500.0]], NAMES, DENSE) == pytest.approx(0.0, abs=1e-12)
    assert normalised_hypervolume([[10.0, 1000.0]], NAMES, DENSE) == pytest.approx(0.01 / 1.01)
    assert normalised_hypervolume([[math.inf, 500.0], [math.nan, 1.0]], NAMES, DENSE) == 0.0


def test_kl_counts_in_nats() -> None:
    names = ("kl", "params")
    half = normalised_hypervolume([[math.log(20.0) / 2, 0.0]], names, {"params": 50.0})
    assert half == pytest.approx(0.5)


def test_search_scale_is_monotone_and_finite() -> None:
    def scaled(perplexity: float) -> float:
        return float(search_scale({"perplexity": perplexity, "macs_per_token": 500.0}, NAMES, DENSE)[0])

    values = [scaled(p) for p in (1.0, 10.0, 1e4, 1e30, math.inf, math.nan)]
    assert values == sorted(values)
    assert np.isfinite(values).all()
    assert search_scale({"perplexity": 1.0, "macs_per_token": 500.0}, NAMES, DENSE)[1] == 0.5


def curve(count: int) -> np.ndarray:
    x = np.linspace(0.0, 1.0, count)
    return np.column_stack([np.exp(-4 * x), x])


@pytest.mark.parametrize("size", [2, 3, 7])
def test_thinned_fronts_keep_the_extremes_and_the_shape(size: int) -> None:
    rows = curve(30)
    kept = thin_front(rows, size)
    assert len(kept) == size
    assert kept[0] == 0
    assert kept[-1] == 29
    assert kept.tolist() == sorted(kept.tolist())


def test_thinning_removes_the_smallest_contributor_first() -> None:
    rows = np.array([[0.0, 1.0], [0.30, 0.5], [0.31, 0.49], [0.6, 0.2], [1.0, 0.0]])
    volumes = {i: brute_hypervolume(np.delete(rows, i, axis=0), np.full(2, 1.1)) for i in (1, 2, 3)}
    assert set(range(5)) - set(thin_front(rows, 4).tolist()) == {max(volumes, key=lambda i: volumes[i])}


def test_short_fronts_stay_and_extremes_always_do() -> None:
    assert thin_front(curve(4), 9).tolist() == [0, 1, 2, 3]
    assert thin_front(curve(9), 1).tolist() == [0, 8]
    three = np.array([[0.0, 1, 1], [1, 0.0, 1], [1, 1, 0.0], [0.5, 0.5, 0.5]])
    assert thin_front(three, 3).tolist() == [0, 1, 2]


def test_knee_is_farthest_below_the_line() -> None:
    rows = curve(41)
    low, high = rows[0], rows[-1]
    direction = (high - low) / np.linalg.norm(high - low)
    distance = [abs(direction[0] * (row - low)[1] - direction[1] * (row - low)[0]) for row in rows]
    assert knee(rows) == int(np.argmax(distance))
    assert knee(rows * [1000.0, 1e9]) == knee(rows)
    assert knee([[3.0, 3.0]]) == 0
    assert knee([[0.0, 1, 1], [1, 0.0, 1], [1, 1, 0.0], [0.2, 0.3, 0.2]]) == 3
