"""The one place where commands reach the library: imports torch late and keeps other libraries quiet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_llm.config import LoadedProblem
    from nas_llm.events import EventHandler
    from nas_llm.workflow import ExportRecord, FrontPoint, ModelRow, Run, RunSummary


def _quiet() -> None:
    """Their bars and notes would tear our own display; whoever sets these variables keeps them."""
    for name, value in (
        ("TQDM_DISABLE", "1"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("TOKENIZERS_PARALLELISM", "false"),
    ):
        os.environ.setdefault(name, value)


def run_search(
    loaded: LoadedProblem,
    *,
    run_dir: Path,
    resume: bool,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    resources: Mapping[str, Any],
) -> RunSummary:
    """Search, re-score, report."""
    _quiet()
    from nas_llm import workflow

    return workflow.run_search(
        loaded,
        run_dir=run_dir,
        resume=resume,
        on_event=on_event,
        should_stop=should_stop,
        resources=workflow.Resources(**resources),
    )


def open_run(run_dir: Path) -> Run:
    """Read a run directory."""
    _quiet()
    from nas_llm import workflow

    return workflow.open_run(run_dir)


def export_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    out: Path | None,
    formats: Sequence[str],
    force: bool,
    on_event: EventHandler,
) -> list[ExportRecord]:
    """Reconstruct, write and measure points."""
    _quiet()
    from nas_llm import workflow

    return workflow.export_points(run, list(points), out=out, formats=formats, force=force, on_event=on_event)


def evaluate_models(
    models: Sequence[str],
    *,
    text: Path | None,
    window: int,
    windows: int | None,
    base: str | None,
    on_event: EventHandler,
) -> list[ModelRow]:
    """Measure models."""
    _quiet()
    from nas_llm import workflow

    return workflow.evaluate_models(models, text=text, window=window, windows=windows, base=base, on_event=on_event)
