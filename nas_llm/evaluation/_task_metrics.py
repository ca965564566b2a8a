"""What lm-eval's metrics are: which stand for shares of documents, and in which direction they are better."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_eval.api.task import Task

# lm-eval's own ways to sum documents up that leave a share a share.
_MEANS = ("mean", "nanmean", "f1")
# Tasks name metrics of their own after what they count, of which lm-eval's registry knows nothing.
_COUNTS = re.compile(r"(?:^|_)(?:acc|accuracy|exact_match|em|pass@\d+|pass_at_\w+)(?:_|$)")


@dataclass(frozen=True)
class MetricKind:
    """What a metric is.

    Attributes:
        share: Whether it lies between 0 and 1 and is read in percent.
        higher_is_better: As lm-eval says; None where it says nothing.
    """

    share: bool
    higher_is_better: bool | None


UNKNOWN = MetricKind(share=False, higher_is_better=None)


def metric_kinds(tasks: Iterable[Task]) -> dict[str, MetricKind]:
    """The metrics of some tasks, by name; one that two tasks have in different ways is unknown.

    A share is better when higher, and either one of lm-eval's metrics that are averages over documents (accuracies,
    exact matches, F1), summed up as lm-eval does it, or counts right answers by its name. Perplexities, bits per byte,
    Brier scores, BLEU, Matthews' correlation and what only a task's own code knows the scale of are none.

    Args:
        tasks: lm-eval's tasks, after they have run: some find names of their metrics only then.
    """
    found: dict[str, MetricKind] = {}
    for task in tasks:
        better = task.higher_is_better()
        for name, summed_up in task.aggregation().items():
            higher = better.get(name)
            kind = MetricKind(share=bool(higher) and _is_share(name, summed_up), higher_is_better=higher)
            if found.setdefault(name, kind) != kind:
                found[name] = UNKNOWN
    return found


def _is_share(name: str, summed_up: Callable[..., float]) -> bool:
    from lm_eval.api.registry import get_aggregation, get_metric_aggregation

    means = [get_aggregation(mean) for mean in _MEANS]
    known = get_metric_aggregation(name) in means and summed_up in means
    return known or _COUNTS.search(name) is not None
