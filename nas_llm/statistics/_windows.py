"""Perplexities with error bars, from the losses of each window."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nas_llm.statistics._bootstrap import Interval, ratio_interval

Verdict = Literal["better", "worse", "no difference", "not comparable"]

# Beyond this the exponential says no more than that a model is broken.
_MOST = 80.0


@dataclass(frozen=True, kw_only=True)
class WindowLosses:
    """What a model lost on each window of a text.

    Attributes:
        nll: ``(n,)`` negative log-likelihoods, summed over the predicted tokens of a window, in nats.
        tokens: ``(n,)`` predicted tokens.
    """

    nll: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def perplexity(self) -> float:
        """exp(mean token NLL), at most e^80."""
        return _exp(sum(self.nll) / sum(self.tokens))

    def part(self, places: Iterable[int]) -> WindowLosses:
        """The losses of some of the windows."""
        chosen = list(places)
        return WindowLosses(nll=tuple(self.nll[n] for n in chosen), tokens=tuple(self.tokens[n] for n in chosen))

    def perplexities(self, parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
        """Perplexity of each part.

        Args:
            parts: Names to places of windows, as ``WindowSet.kinds`` has them.
        """
        return {name: self.part(places).perplexity for name, places in parts.items()}


@dataclass(frozen=True, kw_only=True)
class PairedRatio:
    """A model's perplexity over that of another one on the same windows.

    Attributes:
        ratio: Below 1 where the model is better than the other.
        interval: Of the ratio; None for fewer windows than it takes.
        verdict: ``better`` or ``worse`` where the interval lies on one side of 1, ``no difference`` (that this text
            shows) where it holds 1, ``not comparable`` without an interval.
    """

    ratio: float
    interval: Interval | None
    verdict: Verdict


def perplexity_interval(losses: WindowLosses) -> Interval | None:
    """95 % confidence interval of a perplexity: windows resampled, the ratio of their sums studentised.

    The interval is made for the mean NLL (:func:`nas_llm.statistics.ratio_interval`) and its ends are exponentiated.

    Args:
        losses: Of one model.

    Returns:
        The interval; None for fewer windows than it takes.
    """
    return _exponentiated(ratio_interval(losses.nll, losses.tokens))


def paired_ratio(model: WindowLosses, against: WindowLosses) -> PairedRatio:
    """A model beside another one, by a paired bootstrap: a resample holds the same windows for both.

    What makes a window hard is so to both, and leaves with the difference; so a ratio is known far better than either
    perplexity. (Efron and Tibshirani, An Introduction to the Bootstrap, 1993: chapter 8 on paired data, section 12.5
    on the studentised interval.)

    Args:
        model: Losses of the model.
        against: Losses of the other one on the same windows.

    Raises:
        ValueError: If they are not of the same windows.
    """
    if model.tokens != against.tokens:
        raise ValueError("a paired ratio needs losses of the same windows")
    differences = np.subtract(model.nll, against.nll)
    interval = _exponentiated(ratio_interval(differences, model.tokens))
    return PairedRatio(
        ratio=_exp(float(differences.sum()) / sum(model.tokens)), interval=interval, verdict=_verdict(interval)
    )


def mean_losses(losses: Sequence[WindowLosses]) -> WindowLosses:
    """Mean losses of several models on the same windows; its perplexity is the geometric mean of theirs.

    Args:
        losses: At least one.
    """
    return WindowLosses(
        nll=tuple(float(value) for value in np.mean([one.nll for one in losses], axis=0)), tokens=losses[0].tokens
    )


def _verdict(interval: Interval | None) -> Verdict:
    if interval is None:
        return "not comparable"
    return "better" if interval.high < 1.0 else "worse" if interval.low > 1.0 else "no difference"


def _exponentiated(interval: Interval | None) -> Interval | None:
    return None if interval is None else replace(interval, low=_exp(interval.low), high=_exp(interval.high))


def _exp(value: float) -> float:
    return math.exp(min(value, _MOST)) if not math.isnan(value) else math.exp(_MOST)
