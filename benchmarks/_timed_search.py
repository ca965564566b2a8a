"""A search that ends by the clock, and when each of its evaluations was done."""

from __future__ import annotations

import time
from pathlib import Path

from nas_llm.config import LoadedProblem
from nas_llm.events import CandidateEvaluated, Event, EventHandler, StageStarted
from nas_llm.workflow import run_search


def timed_search(
    loaded: LoadedProblem, run_dir: Path, *, seconds: float, resume: bool = False, on_event: EventHandler
) -> list[tuple[float, int]]:
    """Search for some time, without the shared cache of evaluations.

    Args:
        loaded: The problem; its budget of evaluations should be out of reach.
        run_dir: Where.
        seconds: Wall time; loading is not counted.
        resume: Go on with what is there.
        on_event: Told what happens.

    Returns:
        (seconds since the search began or went on, ordinal) of each evaluation.
    """
    begun: list[float] = []
    times: list[tuple[float, int]] = []

    def note(event: Event) -> None:
        on_event(event)
        if isinstance(event, StageStarted) and event.stage == "search":
            begun.append(time.monotonic())
        if isinstance(event, CandidateEvaluated) and event.evaluation is not None:
            times.append((time.monotonic() - begun[0], event.evaluation.ordinal))

    run_search(
        loaded,
        run_dir=run_dir,
        resume=resume,
        on_event=note,
        should_stop=lambda: bool(begun) and time.monotonic() - begun[0] >= seconds,
        shared_cache=False,
    )
    return times
