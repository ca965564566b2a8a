"""Scores of documents, of two models side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_llm.statistics._bootstrap import FEWEST_WINDOWS, Interval, ratio_interval
from nas_llm.statistics._windows import Verdict

# Of five documents that differ, all may do so to one side by chance once in sixteen times: no verdict at 95 %.
_FEWEST_DIFFERING = 6


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """A model's mean score minus that of another one on the same documents.

    Attributes:
        difference: In the metric's own unit.
        interval: Of the difference; None where too few documents differ for one.
        differing: Documents that the two score differently.
        verdict: ``better`` or ``worse`` where the interval lies on one side of 0, else ``no difference`` (that these
            documents show); ``not comparable`` for fewer documents than an interval takes.
    """

    difference: float
    interval: Interval | None
    differing: int
    verdict: Verdict


def paired_difference(model: Sequence[float], against: Sequence[float], *, higher_is_better: bool) -> PairedDifference:
    """A model beside another one on the same documents, by :func:`nas_llm.statistics.ratio_interval` of differences.

    Where fewer than six documents differ there is no interval, and no difference shown: then the sign test, which is
    exact (McNemar, Psychometrika 12, 1947), cannot tell two models apart at 95 % either.

    Args:
        model: Scores of the model, one a document.
        against: Scores of the other one, of the same documents in the same order.
        higher_is_better: Whether a larger score is the better one.

    Raises:
        ValueError: If they are not of equally many documents.
    """
    if len(model) != len(against):
        raise ValueError("a paired difference needs scores of the same documents")
    differences = np.subtract(model, against)
    differing, mean = int(np.count_nonzero(differences)), float(differences.mean())
    if len(differences) < FEWEST_WINDOWS or not np.isfinite(differences).all():
        return PairedDifference(difference=mean, interval=None, differing=differing, verdict="not comparable")
    interval = None if differing < _FEWEST_DIFFERING else ratio_interval(differences, np.ones(len(differences)))
    verdict: Verdict = "no difference"
    if interval is not None and not interval.low <= 0.0 <= interval.high:
        verdict = "better" if (interval.low > 0.0) == higher_is_better else "worse"
    return PairedDifference(difference=mean, interval=interval, differing=differing, verdict=verdict)
