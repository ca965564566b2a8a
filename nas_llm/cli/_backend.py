"""The one place where commands reach the library: imports torch late and keeps other libraries quiet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_llm.config import LoadedProblem, Problem
    from nas_llm.events import EventHandler
    from nas_llm.export import Servability
    from nas_llm.workflow import ExportRecord, FrontPoint, ModelRow, ReconstructionRecord, Run, RunSummary


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


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        records: What lies on disk now.
        refusals: What no format took, with the reason.
        loads: How to load each format that was written.
    """

    records: Sequence[ExportRecord]
    refusals: Sequence[str] = ()
    loads: Sequence[str] = ()


def export_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    out: Path | None,
    formats: Sequence[str],
    dtype: Mapping[str, str],
    max_shard_size: str,
    method: str | None,
    samples: int | None,
    jobs: int,
    force: bool,
    on_event: EventHandler,
) -> Exported:
    """Reconstruct, write and measure points."""
    _quiet()
    from nas_llm import workflow
    from nas_llm.export import EXPORT_FORMATS

    refusals: Sequence[str] = ()
    try:
        records = workflow.export_points(
            run,
            list(points),
            out=out,
            formats=formats,
            dtype=dtype,
            max_shard_size=max_shard_size,
            method=method,
            samples=samples,
            jobs=jobs,
            force=force,
            on_event=on_event,
        )
    except workflow.ExportRefused as refused:
        records, refusals = refused.records, refused.refusals
    names = dict.fromkeys(record.format for record in records)
    return Exported(records, refusals, [EXPORT_FORMATS[name].loads for name in names])


def reconstruct_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    method: str | None,
    samples: int | None,
    damping: float | Sequence[float] | None,
    target: str | float | None,
    on_event: EventHandler,
) -> list[ReconstructionRecord]:
    """Finish points and measure them."""
    _quiet()
    from nas_llm import workflow

    return workflow.reconstruct_points(
        run, points, method=method, samples=samples, damping=damping, target=target, on_event=on_event
    )


def what_is_servable(problem: Problem) -> Mapping[str, Servability]:
    """Which formats a problem's genomes can be exported to."""
    _quiet()
    from nas_llm import workflow

    return workflow.what_is_servable(problem)


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
