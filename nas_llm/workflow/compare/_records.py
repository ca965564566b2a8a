"""What a comparison found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_llm.evaluation import TaskScore, TextScore
from nas_llm.statistics import (
    Interval,
    PairedDifference,
    PairedRatio,
    mean_losses,
    paired_difference,
    paired_ratio,
    perplexity_interval,
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One model, measured on the text.

    Attributes:
        name: The model as it was named; points are ``RUN:p03``.
        params: All parameters.
        inheriting_ratio: Of a point, or as an export says of itself; None of others.
        score: Its perplexity.
        tasks: Its scores on tasks.
    """

    name: str
    params: int
    inheriting_ratio: float | None
    score: TextScore
    tasks: tuple[TaskScore, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskPair:
    """One task of a model beside the first of its group.

    Attributes:
        task: The task.
        metric: Its metric.
        first: Score of the first model.
        value: Score of this one.
        share: Whether both are shares of documents, which tables show in percent.
        paired: The difference.
    """

    task: str
    metric: str
    first: float
    value: float
    share: bool
    paired: PairedDifference


@dataclass(frozen=True, kw_only=True)
class ComparedModel(Measured):
    """One model beside the first of its group.

    Attributes:
        against: Name of the first; None of the first itself.
        paired: The ratio to it; None of the first itself.
        on_tasks: Tasks beside it; empty of the first itself.
    """

    against: str | None
    paired: PairedRatio | None
    on_tasks: tuple[TaskPair, ...]


@dataclass(frozen=True, kw_only=True)
class ComparedGroup:
    """Models that stand side by side.

    Attributes:
        target: The inheriting ratio that all of them keep to; None where models were named one by one.
        models: The models.
    """

    target: float | None
    models: tuple[ComparedModel, ...]


@dataclass(frozen=True, kw_only=True)
class ComparedFront:
    """One front over all targets.

    Attributes:
        name: The run.
        perplexity: Geometric mean of its points' perplexities.
        interval: Of that.
        against: The first run; None of the first itself.
        paired: The ratio to it; None of the first itself.
    """

    name: str
    perplexity: float
    interval: Interval | None
    against: str | None
    paired: PairedRatio | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Models or fronts beside the first of them, on the same windows.

    Attributes:
        text: What the windows are of.
        digest: Content hash of the windows.
        window: Tokens of one window.
        windows: Windows that were measured, spread evenly over the text.
        available: Windows in the whole text.
        groups: One for models; of fronts one a target.
        fronts: Runs over all targets; empty for models.
    """

    text: str
    digest: str
    window: int
    windows: int
    available: int
    groups: tuple[ComparedGroup, ...]
    fronts: tuple[ComparedFront, ...]


def compared_group(models: Sequence[Measured], *, target: float | None = None) -> ComparedGroup:
    """Set models beside the first of them.

    Args:
        models: The models.
        target: The inheriting ratio that all of them keep to.
    """
    first = models[0]
    return ComparedGroup(
        target=target,
        models=tuple(
            ComparedModel(
                **vars(model),
                against=first.name if place else None,
                paired=paired_ratio(model.score.losses, first.score.losses) if place else None,
                on_tasks=_task_pairs(model.tasks, first.tasks) if place else (),
            )
            for place, model in enumerate(models)
        ),
    )


def _task_pairs(tasks: Sequence[TaskScore], first: Sequence[TaskScore]) -> tuple[TaskPair, ...]:
    """The metric to read of each task whose score is the mean of its documents'; members of groups by their group's."""
    headlines = {(score.task, score.metric) for score in first if score.headline}
    alone, metrics = {task for task, _ in headlines}, {metric for _, metric in headlines}
    found = []
    for base in first:
        score = next((one for one in tasks if (one.task, one.metric) == (base.task, base.metric)), None)
        shown = base.headline or (base.task not in alone and base.metric in metrics)
        if score is None or not shown or score.documents is None or base.documents is None:
            continue
        paired = paired_difference(score.documents, base.documents, higher_is_better=base.higher_is_better is not False)
        found.append(
            TaskPair(
                task=base.task,
                metric=base.metric,
                first=base.value,
                value=score.value,
                share=base.share,
                paired=paired,
            )
        )
    return tuple(found)


def compared_fronts(names: Sequence[str], groups: Sequence[ComparedGroup]) -> tuple[ComparedFront, ...]:
    """Set fronts beside the first of them, by their mean losses over all targets.

    Args:
        names: The runs, in the order of the models of each group.
        groups: One a target.
    """
    means = [mean_losses([group.models[place].score.losses for group in groups]) for place in range(len(names))]
    return tuple(
        ComparedFront(
            name=name,
            perplexity=mean.perplexity,
            interval=perplexity_interval(mean),
            against=names[0] if place else None,
            paired=paired_ratio(mean, means[0]) if place else None,
        )
        for place, (name, mean) in enumerate(zip(names, means, strict=True))
    )
