"""What is known of a running search, from its events; no rendering here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from nas_llm.events import CandidateEvaluated, Event, GenerationFinished, StageAdvanced, StageFinished, StageStarted

Objectives = Mapping[str, float]


class SearchMonitor:
    """Keeps the latest of everything and derives rate and time left.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._stages: list[StageStarted] = []
        self._began: dict[str, float] = {}
        self._done: dict[str, int] = {}
        self.generation = 0
        self.evaluations = 0
        self.budget = 0
        self.hypervolume: float | None = None
        self.front: tuple[Objectives, ...] = ()

    def update(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case StageStarted(stage=stage):
                if all(open.stage != stage for open in self._stages):
                    # One that is told again knows more of itself, but has not begun anew.
                    self._began[stage], self._done[stage] = self._clock(), 0
                self._stages = [*self._open_without(stage), event]
            case StageAdvanced(stage=stage, done=done):
                self._done[stage] = done
            case StageFinished(stage=stage):
                self._stages = self._open_without(stage)
            case CandidateEvaluated(evaluations=evaluations, budget=budget, seconds=seconds):
                if self._first is None:
                    # The clock of the rate starts when the first candidate began, not when it was done.
                    self._first = (self._clock() - seconds, evaluations - 1)
                self.evaluations, self.budget = evaluations, budget
            case GenerationFinished():
                self.generation, self.evaluations = event.generation, event.evaluations
                self.budget, self.hypervolume, self.front = event.budget, event.hypervolume, event.front

    @property
    def stage(self) -> StageStarted | None:
        """The innermost stage that is under way; stages may lie inside of others."""
        return self._stages[-1] if self._stages else None

    @property
    def stage_done(self) -> int:
        """Steps of it that are done."""
        return self._done[self._stages[-1].stage] if self._stages else 0

    def _open_without(self, stage: str) -> list[StageStarted]:
        return [other for other in self._stages if other.stage != stage]

    def seconds_in(self, stage: str) -> float:
        """Time since a stage began."""
        return self._clock() - self._began.get(stage, self._clock())

    @property
    def per_minute(self) -> float | None:
        """Evaluations per minute of this process, None before the first."""
        if self._first is None:
            return None
        began, before = self._first
        elapsed = self._clock() - began
        return 60.0 * (self.evaluations - before) / elapsed if elapsed > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Time until the budget is spent at the present rate."""
        rate = self.per_minute
        return 60.0 * (self.budget - self.evaluations) / rate if rate else None


def best_at_levels(front: Sequence[Objectives], levels: int) -> list[Objectives]:
    """The best quality that fits under each of a few evenly spread costs, cheapest first.

    Args:
        front: Points with the measured objective and at least one cost; the first cost counts.
        levels: Cost levels between the cheapest and the dearest point.
    """
    from nas_llm.space import is_quality, the_quality

    if not front:
        return []
    quality = the_quality(list(front[0]))
    price = next(name for name in front[0] if not is_quality(name))
    low, high = min(point[price] for point in front), max(point[price] for point in front)
    found: list[Objectives] = []
    for step in range(levels):
        # The top level is the highest price itself, free of rounding.
        limit = high if step == levels - 1 else low + (high - low) * step / (levels - 1)
        best = min((point for point in front if point[price] <= limit), key=lambda point: point[quality])
        if best not in found:
            found.append(best)
    return found
