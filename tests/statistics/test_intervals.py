"""Intervals cover as often as they say, and verdicts are what the data allow."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from nas_llm.statistics import (
    FEWEST_WINDOWS,
    WindowLosses,
    mean_losses,
    paired_ratio,
    perplexity_interval,
    ratio_interval,
)

TOKENS = 1023
Draw = Callable[[np.random.Generator, int], np.ndarray]


def losses(mean_nll: np.ndarray) -> WindowLosses:
    """Windows of 1,024 tokens with these losses a token."""
    return WindowLosses(nll=tuple(float(TOKENS * value) for value in mean_nll), tokens=(TOKENS,) * len(mean_nll))


def windows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Losses a token as texts have them: around 3 nats."""
    return rng.normal(3.0, 0.3, count)


@pytest.mark.parametrize("count", [16, 64])
@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (windows, 3.0),
        (lambda rng, count: 0.02 + 0.05 * rng.standard_t(5, count), 0.02),
        (lambda rng, count: 2.5 + rng.gamma(4.0, 0.125, count), 3.0),
    ],
    ids=["normal", "heavy tails", "skewed"],
)
def test_intervals_cover_as_often_as_they_say(count: int, draw: Draw, truth: float) -> None:
    rng, trials = np.random.default_rng(7), 1000
    covered = 0
    for _ in range(trials):
        interval = ratio_interval(draw(rng, count) * TOKENS, np.full(count, TOKENS), resamples=499)
        assert interval is not None
        covered += interval.low <= truth <= interval.high
    assert 0.92 <= covered / trials <= 0.98


def test_windows_of_different_sizes_are_a_ratio_of_sums() -> None:
    rng, trials, covered = np.random.default_rng(3), 1000, 0
    for _ in range(trials):
        tokens = rng.integers(100, 1000, 16)
        interval = ratio_interval(tokens * windows(rng, 16), tokens, resamples=499)
        assert interval is not None
        covered += interval.low <= 3.0 <= interval.high
    assert 0.92 <= covered / trials <= 0.98


def test_a_perplexity_lies_within_its_interval_which_is_always_the_same() -> None:
    found = losses(windows(np.random.default_rng(1), 32))
    interval = perplexity_interval(found)
    assert interval is not None
    assert interval.low < found.perplexity < interval.high
    assert found.perplexity == pytest.approx(math.exp(sum(found.nll) / (32 * TOKENS)))
    assert perplexity_interval(found) == interval
    assert (interval.confidence, interval.resamples, interval.seed) == (0.95, 9999, 0)


def test_four_times_the_windows_halve_an_interval() -> None:
    widths = []
    for count in (200, 800):
        interval = perplexity_interval(losses(windows(np.random.default_rng(1), count)))
        assert interval is not None
        widths.append(math.log(interval.high / interval.low))
    assert widths[0] / widths[1] == pytest.approx(2.0, rel=0.15)


def test_one_model_twice_is_exactly_no_difference() -> None:
    found = losses(windows(np.random.default_rng(2), 16))
    pair = paired_ratio(found, found)
    assert (pair.ratio, pair.verdict) == (1.0, "no difference")
    assert pair.interval is not None
    assert (pair.interval.low, pair.interval.high) == (1.0, 1.0)


def test_a_clear_shift_is_called_both_ways() -> None:
    rng = np.random.default_rng(4)
    base = windows(rng, 16)
    worse = base + rng.normal(0.05, 0.02, 16)
    pair, back = paired_ratio(losses(worse), losses(base)), paired_ratio(losses(base), losses(worse))
    assert (pair.verdict, back.verdict) == ("worse", "better")
    assert pair.ratio * back.ratio == pytest.approx(1.0)
    assert pair.interval is not None
    # Far narrower than either perplexity's own, which say nothing here.
    alone = perplexity_interval(losses(base))
    assert alone is not None
    assert math.log(pair.interval.high / pair.interval.low) < 0.2 * math.log(alone.high / alone.low)
    assert alone.low < losses(worse).perplexity < alone.high


def test_equal_models_are_told_apart_as_rarely_as_promised() -> None:
    rng, trials, called = np.random.default_rng(5), 300, 0
    for _ in range(trials):
        base = windows(rng, 16)
        called += paired_ratio(losses(base + rng.normal(0.0, 0.02, 16)), losses(base)).verdict != "no difference"
    assert called / trials <= 0.09


def test_too_few_windows_and_broken_models_have_no_interval() -> None:
    few = losses(windows(np.random.default_rng(0), FEWEST_WINDOWS - 1))
    assert perplexity_interval(few) is None
    assert paired_ratio(few, few).verdict == "not comparable"
    broken = losses(np.full(16, np.nan))
    assert perplexity_interval(broken) is None
    assert broken.perplexity == math.exp(80.0)
    pair = paired_ratio(broken, losses(windows(np.random.default_rng(0), 16)))
    assert (pair.verdict, pair.interval) == ("not comparable", None)


def test_windows_that_are_not_the_same_are_no_pair() -> None:
    a, b = losses(np.ones(8)), losses(np.ones(9))
    with pytest.raises(ValueError, match="same windows"):
        paired_ratio(a, b)
    with pytest.raises(ValueError, match=r"\(2,\) and denominators \(3,\)"):
        ratio_interval([1.0, 2.0], [1.0, 2.0, 3.0])


def test_rare_differences_give_an_interval_that_holds_0() -> None:
    # One window of 16 differs: many resamples have no spread at all.
    differences = np.zeros(16)
    differences[3] = 5.0
    interval = ratio_interval(differences, np.full(16, TOKENS))
    assert interval is not None
    assert interval.low <= 0.0 <= interval.high


def test_the_mean_of_losses_has_the_geometric_mean_of_perplexities() -> None:
    rng = np.random.default_rng(6)
    a, b = losses(windows(rng, 10)), losses(windows(rng, 10))
    assert mean_losses([a, b]).perplexity == pytest.approx(math.sqrt(a.perplexity * b.perplexity))


def test_the_global_random_state_is_left_alone() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    perplexity_interval(losses(windows(np.random.default_rng(1), 16)))
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]
