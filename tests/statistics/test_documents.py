"""Differences of task scores are called as often as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from nas_llm.statistics import paired_difference


def test_intervals_of_answers_cover_as_often_as_they_say() -> None:
    rng, trials, covered = np.random.default_rng(1), 300, 0
    for _ in range(trials):
        base = (rng.random(200) < 0.6).astype(float)
        changed = np.where(rng.random(200) < 0.2, 1.0 - base, base)
        # A fifth of all answers change, of which 60 % were right.
        truth = 0.2 * (0.4 - 0.6)
        found = paired_difference(changed, base, higher_is_better=True)
        assert found.interval is not None
        covered += found.interval.low <= truth <= found.interval.high
    assert 0.92 <= covered / trials <= 0.98


def test_a_clear_difference_is_called_by_what_is_better() -> None:
    base = np.repeat([0.0, 1.0], 50)
    good = base.copy()
    good[:20] = 1.0
    found = paired_difference(good, base, higher_is_better=True)
    assert (found.verdict, found.differing) == ("better", 20)
    assert found.difference == pytest.approx(0.2)
    assert paired_difference(base, good, higher_is_better=True).verdict == "worse"
    assert paired_difference(base, good, higher_is_better=False).verdict == "better"


def test_few_documents_that_differ_show_no_difference() -> None:
    base = np.zeros(100)
    five = base.copy()
    five[:5] = 1.0
    found = paired_difference(five, base, higher_is_better=True)
    assert (found.verdict, found.interval, found.differing) == ("no difference", None, 5)
    same = paired_difference(base, base, higher_is_better=True)
    assert (same.difference, same.verdict, same.differing) == (0.0, "no difference", 0)


def test_few_documents_are_not_comparable() -> None:
    assert paired_difference([1.0] * 7, [0.0] * 7, higher_is_better=True).verdict == "not comparable"
    with pytest.raises(ValueError, match="same documents"):
        paired_difference([1.0], [1.0, 0.0], higher_is_better=True)
