"""A finished run loaded again, to do more with its points."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import ModelError
from nas_llm.events import EventHandler
from nas_llm.workflow._prepare import Prepared, prepare
from nas_llm.workflow._run_files import check_same_inputs, read_problem, resolved_dtype, run_latency
from nas_llm.workflow._types import Run


def reopen(run: Run, *, on_event: EventHandler) -> Prepared:
    """Load a run's model, text and calibration.

    Args:
        run: The run.
        on_event: Told what happens.

    Raises:
        NasLlmError: If any part of the definition cannot be met any more.
        RunError: If the run's model or text changed.
    """
    _, resolved = read_problem(run.directory)
    source = run.problem.model.source
    if Path(source).is_absolute() and not Path(source).exists():
        raise ModelError(
            f"{run.directory} has its dense model at {source}, which is gone; say where it is now: --model"
        )
    prepared = prepare(
        run.problem,
        base_dir=Path(resolved["base_dir"]),
        on_event=on_event,
        dtype=resolved_dtype(run.directory),
        latency=run_latency(run.directory, run.problem),
    )
    check_same_inputs(run.directory, prepared)
    return prepared
