"""The seven commonsense tasks of the literature on structured pruning, and the metric of each that it averages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nas_llm.evaluation._scores import TaskScore

COMMONSENSE7 = "commonsense7"
# As LLM-Pruner and those after it report them: length-normalised where the answers differ much in length.
COMMONSENSE7_METRICS: Mapping[str, str] = {
    "boolq": "acc",
    "piqa": "acc",
    "hellaswag": "acc_norm",
    "winogrande": "acc",
    "arc_easy": "acc",
    "arc_challenge": "acc_norm",
    "openbookqa": "acc_norm",
}


def expand(names: Sequence[str]) -> list[str]:
    """Names as lm-eval knows them, none twice."""
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys(COMMONSENSE7_METRICS if name == COMMONSENSE7 else [name])
    return list(found)


def commonsense7_mean(scores: Sequence[TaskScore]) -> TaskScore:
    """The unweighted mean of the seven; its standard error is that of a mean of independent tasks.

    Args:
        scores: Scores that hold each of the seven under its metric.
    """
    by_name = {(score.task, score.metric): score for score in scores}
    seven = [by_name[pair] for pair in COMMONSENSE7_METRICS.items()]
    errors = [score.stderr for score in seven]
    known = [error for error in errors if error is not None]
    return TaskScore(
        task=COMMONSENSE7,
        metric="mean",
        value=sum(score.value for score in seven) / len(seven),
        stderr=math.hypot(*known) / len(seven) if len(known) == len(seven) else None,
        samples=sum(score.samples for score in seven),
        fewshot=0,
        headline=True,
        cached=any(score.cached for score in seven),
        share=True,
        higher_is_better=True,
    )
