"""The one place where commands reach the library: imports torch late and keeps other libraries quiet."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.cli._run_directory import run_or_model

if TYPE_CHECKING:
    from nas_llm.config import LoadedProblem, Problem
    from nas_llm.events import EventHandler
    from nas_llm.export import Servability
    from nas_llm.studies import LoadedStudy, SearchMirror, StudySummary
    from nas_llm.workflow import (
        ExportRecord,
        FrontPoint,
        ModelRow,
        PosttrainRecord,
        ReconstructionRecord,
        Run,
        RunSummary,
    )


def _quiet() -> None:
    """Their bars and notes would tear our own display; whoever sets these variables keeps them."""
    for name, value in (
        ("TQDM_DISABLE", "1"),
        ("HF_DATASETS_DISABLE_PROGRESS_BARS", "1"),
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
    study: str | None = None,
    mirrored: bool = True,
) -> RunSummary:
    """Search, re-score, report; show it in a study where Optuna is installed."""
    _quiet()
    from nas_llm import workflow

    mirror = _mirror(loaded, run_dir, study, on_event) if mirrored else None
    summary = workflow.run_search(
        loaded,
        run_dir=run_dir,
        resume=resume,
        on_event=mirror or on_event,
        should_stop=should_stop,
        resources=workflow.Resources(**resources),
    )
    if mirror is not None:
        mirror.finish(summary)
    return summary


def _mirror(loaded: LoadedProblem, run_dir: Path, study: str | None, on_event: EventHandler) -> SearchMirror | None:
    from nas_llm.studies._optuna import has_optuna, require_optuna

    if study is not None:
        require_optuna("--study")
    elif not has_optuna():
        return None
    _quiet_optuna()
    from nas_llm.studies import SearchMirror

    return SearchMirror(loaded.problem, run_dir, url=study, on_event=on_event)


def run_study(
    loaded: LoadedStudy,
    *,
    storage: str | Path,
    resume: bool,
    workers: int,
    timeout: float | None,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    resources: Mapping[str, Any],
) -> StudySummary:
    """Run the trials of a study."""
    _quiet()
    from nas_llm.studies._optuna import require_optuna

    require_optuna("nas-llm study")
    _quiet_optuna()
    from nas_llm import studies, workflow

    return studies.run_study(
        loaded,
        storage=storage,
        resume=resume,
        workers=workers,
        timeout=timeout,
        on_event=on_event,
        should_stop=should_stop,
        resources=workflow.Resources(**resources),
    )


def serve_dashboard(
    source: str, *, artifacts: Path | None, host: str, port: int, on_ready: Callable[[str], None]
) -> None:
    """Show studies in a browser until interrupted."""
    _quiet()
    from nas_llm.studies._optuna import require_dashboard

    require_dashboard("nas-llm dashboard")
    _quiet_optuna()
    from nas_llm import studies

    studies.serve_dashboard(source, artifacts=artifacts, host=host, port=port, on_ready=on_ready)


def export_studies(source: str, *, path: Path, force: bool) -> None:
    """Write the studies of a storage as one page."""
    _quiet()
    from nas_llm.studies._optuna import require_optuna

    require_optuna("nas-llm dashboard --export")
    _quiet_optuna()
    from nas_llm import studies

    studies.export_html(source, path=path, force=force)


def _quiet_optuna() -> None:
    import warnings

    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def open_run(run_dir: Path, *, model: str | None = None) -> Run:
    """Read a run directory."""
    _quiet()
    from nas_llm import workflow

    return workflow.open_run(run_dir, model=model)


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
    memory_gb: float | None,
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
            memory_gb=memory_gb,
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
    step: float | None,
    blend: float | None,
    memory_gb: float | None,
    on_event: EventHandler,
) -> list[ReconstructionRecord]:
    """Finish points and measure them."""
    _quiet()
    from nas_llm import workflow

    return workflow.reconstruct_points(
        run,
        points,
        method=method,
        samples=samples,
        damping=damping,
        target=target,
        step=step,
        blend=blend,
        memory_gb=memory_gb,
        on_event=on_event,
    )


def what_is_servable(problem: Problem) -> Mapping[str, Servability]:
    """Which formats a problem's genomes can be exported to."""
    _quiet()
    from nas_llm import workflow

    return workflow.what_is_servable(problem)


@dataclass(frozen=True)
class Evaluated:
    """Measured models.

    Attributes:
        rows: One a model.
        versions: Of the packages that numbers depend on.
    """

    rows: Sequence[ModelRow]
    versions: Mapping[str, str]


def evaluate_models(
    models: Sequence[str], *, workload: Mapping[str, int], dtype: str, on_event: EventHandler, **options: Any
) -> Evaluated:
    """Measure models; the options are those of the library's function."""
    _quiet()
    import torch

    from nas_llm import workflow
    from nas_llm.evaluation import Workload
    from nas_llm.models import PACKAGED_MODELS

    # A run often bears its model's name.
    named = [name if name in PACKAGED_MODELS else run_or_model(name) for name in models]
    rows = workflow.evaluate_models(
        named, workload=Workload(**workload), dtype=getattr(torch, dtype), on_event=on_event, **options
    )
    return Evaluated(rows, workflow.measured_with())


def posttrain_export(
    export: Path,
    *,
    texts: Mapping[str, Any],
    settings: Mapping[str, Any],
    output: Path | None,
    distill: bool,
    teacher: str | None,
    force: bool,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
) -> PosttrainRecord | None:
    """Train an export and write it again."""
    _quiet()
    from nas_llm import workflow
    from nas_llm.posttrain import PosttrainSettings

    return workflow.posttrain_export(
        export,
        workflow.PosttrainTexts(**texts),
        PosttrainSettings(**settings),
        output=output,
        distill=distill,
        teacher=teacher,
        force=force,
        on_event=on_event,
        should_stop=should_stop,
    )
