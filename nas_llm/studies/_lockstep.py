"""The searches of one trial, one for each seed, moved forward side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from nas_llm.config import Problem
from nas_llm.errors import Interrupted
from nas_llm.events import Event, GenerationFinished
from nas_llm.space import Evaluation
from nas_llm.studies._workbench import Workbench
from nas_llm.studies.definition import with_settings


class LockstepSearches:
    """Searches that differ in their seeds only, so that their mean can be compared at equal evaluations.

    A search stops at the end of a generation and goes on from its checkpoint, which gives the same history as an
    unbroken one.

    Args:
        bench: What all trials share.
        problem: The problem with the trial's settings.
        seeds: One search for each.
        folder: Where the searches keep their state.
        should_stop: Polled between candidates.
    """

    def __init__(
        self,
        bench: Workbench,
        problem: Problem,
        seeds: Sequence[int],
        folder: Path,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.seconds = 0.0
        self._bench = bench
        self._problems = {seed: with_settings(problem, {"seed": seed}) for seed in seeds}
        self._folder = folder
        self._should_stop = should_stop
        self._rows: dict[int, tuple[Evaluation, ...]] = {seed: () for seed in seeds}
        self._reached = dict.fromkeys(seeds, 0)

    def advance(self, evaluations: int, *, seeds: Sequence[int] | None = None) -> None:
        """Let searches run until each has done so many evaluations, or more.

        Raises:
            Interrupted: If ``should_stop`` says so.
        """
        began = time.perf_counter()
        for seed in self._problems if seeds is None else seeds:
            if self._reached[seed] < evaluations:
                self._advance(seed, evaluations)
        self.seconds += time.perf_counter() - began

    def hypervolume(self, evaluations: int, *, seed: int | None = None) -> float:
        """Hypervolume after so many evaluations, the mean over the seeds unless one is named."""
        seeds = list(self._problems) if seed is None else [seed]
        return fmean(self._hypervolume(each, evaluations) for each in seeds)

    def counts(self) -> dict[str, int]:
        """Evaluations in all, and how many of them the cache answered."""
        rows = [row for found in self._rows.values() for row in found]
        return {"evaluations": len(rows), "cached": sum(row.seconds == 0.0 for row in rows)}

    def _hypervolume(self, seed: int, evaluations: int) -> float:
        rows = [row for row in self._rows[seed] if row.ordinal <= evaluations]
        return self._bench.hypervolume(self._problems[seed], rows)

    def _advance(self, seed: int, evaluations: int) -> None:
        finished = False

        def on_event(event: Event) -> None:
            nonlocal finished
            if isinstance(event, GenerationFinished):
                self._reached[seed] = event.evaluations
                finished = event.evaluations >= evaluations

        self._rows[seed] = self._bench.search(
            self._problems[seed],
            self._folder / f"seed-{seed}",
            on_event=on_event,
            should_stop=lambda: finished or self._should_stop(),
        )
        if self._should_stop():
            raise Interrupted
        # A small space may be exhausted before the budget is.
        self._reached[seed] = max(self._reached[seed], evaluations)
