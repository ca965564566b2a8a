"""A finished run loaded again, to do more with its points."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import ModelError
from nas_llm.events import EventHandler
from nas_llm.runs import Run, free_plugins, read_resolved
from nas_llm.session._latency import run_latency
from nas_llm.session._prepare import prepare
from nas_llm.session._prepared import Prepared
from nas_llm.session._workloads import run_workloads


def reopen(run: Run, *, on_event: EventHandler) -> Prepared:
    """Load a run's model, text and calibration.

    Args:
        run: The run.
        on_event: Called with every event.

    Raises:
        NasLlmError: If any part of the definition cannot be met any more.
        RunError: If the run's model or text changed.
    """
    resolved = read_resolved(run.directory)
    source = run.problem.model.source
    if Path(source).is_absolute() and not Path(source).exists():
        raise ModelError(
            f"{run.directory} has its dense model at {source}, which is gone; say where it is now: --model"
        )
    base_dir = Path(resolved.base_dir)
    prepared = prepare(
        run.problem,
        base_dir=base_dir,
        on_event=on_event,
        dtype=resolved.dtype,
        latency=run_latency(run.directory, run.problem),
        workloads=run_workloads(run.directory, run.problem),
        to_search=False,
    )
    resolved.check(prepared.resolved(), run.directory, free=free_plugins(run.problem))
    return prepared
