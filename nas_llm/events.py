"""What a long-running call tells its caller: the library reports, the command line renders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas_llm.space import Evaluation


@dataclass(frozen=True)
class StageStarted:
    """A stage begins.

    Attributes:
        stage: Short name: model, latency, data, calibration, search, front, reconstruction, export, report.
        detail: One line for a person.
        total: Steps of the stage, or None when it is one piece of work.
    """

    stage: str
    detail: str = ""
    total: int | None = None


@dataclass(frozen=True)
class StageAdvanced:
    """A stage has done ``done`` of its steps."""

    stage: str
    done: int


@dataclass(frozen=True)
class StageFinished:
    """A stage is over; ``detail`` says what came of it."""

    stage: str
    detail: str = ""


@dataclass(frozen=True)
class CandidateEvaluated:
    """One genome was evaluated.

    Attributes:
        evaluations: Distinct genomes evaluated so far in this run, resumed ones included.
        budget: Evaluations allowed.
        objectives: Objective name to value.
        seconds: Time of this evaluation.
        evaluation: The whole record, its genome included.
    """

    evaluations: int
    budget: int
    objectives: Mapping[str, float]
    seconds: float
    evaluation: Evaluation | None = None


@dataclass(frozen=True)
class GenerationFinished:
    """The algorithm took a generation in.

    Attributes:
        generation: 1 = the first population.
        evaluations: Distinct genomes evaluated so far.
        budget: Evaluations allowed.
        hypervolume: Normalised hypervolume of all evaluated genomes, in [0, 1].
        front: Objectives of the current non-dominated points.
        seconds: Time since the search (or its resumption) began.
        dense: Objectives of the dense model.
    """

    generation: int
    evaluations: int
    budget: int
    hypervolume: float
    front: tuple[Mapping[str, float], ...] = field(default=())
    seconds: float = 0.0
    dense: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialFinished:
    """A trial of a study is over, whichever process ran it.

    Attributes:
        number: The trial.
        state: ``complete``, ``pruned`` or ``failed``.
        done: Trials that are settled.
        total: Trials of the study.
        values: Objective name to value; empty where it has none.
        best: The best hypervolume so far, None before the first.
        label: What it ran: ``paper``, ``default``, or empty for suggested settings.
    """

    number: int
    state: str
    done: int
    total: int
    values: Mapping[str, float] = field(default_factory=dict)
    best: float | None = None
    label: str = ""


@dataclass(frozen=True)
class Notice:
    """Something a person should know, e.g. a fallback that was taken."""

    message: str


Event = StageStarted | StageAdvanced | StageFinished | CandidateEvaluated | GenerationFinished | TrialFinished | Notice
EventHandler = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The handler that tells nobody."""
