"""Points of a front become models on disk: each point and format whole or not at all, and never done twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from nas_llm import display
from nas_llm.errors import ConfigError, ExportError, NasLlmError
from nas_llm.events import EventHandler, Notice, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.export import ExportFormat, WriteSettings, check_padding, export_format, parse_size
from nas_llm.finishing import Finisher, plan_of_run, with_reconstruction
from nas_llm.front import FrontPoint
from nas_llm.runs import Run
from nas_llm.session import Prepared, check_memory, reopen
from nas_llm.settings import ExportDefaults
from nas_llm.workflow.export._folder import check_folder, locked_folder, remove_empty, write_index
from nas_llm.workflow.export._point import Refusal
from nas_llm.workflow.export._record import ExportRecord
from nas_llm.workflow.export._task import ExportTask, finished, make_task
from nas_llm.workflow.export._workers import export_all

_BYTES = {"float32": 4.0, "f32": 4.0, "float16": 2.0, "f16": 2.0, "bfloat16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}


class ExportRefused(ExportError):
    """Some points have no form in some formats; everything else was written.

    Attributes:
        records: What was written.
        refusals: ``p03/gguf: reason``, one a point and format.
    """

    def __init__(self, records: Sequence[ExportRecord], refusals: Sequence[str]) -> None:
        super().__init__("; ".join(refusals))
        self.records = list(records)
        self.refusals = list(refusals)


def export_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    out: Path | None = None,
    formats: Sequence[str] = ExportDefaults.formats,
    dtype: str | Mapping[str, str] | None = None,
    max_shard_size: str = ExportDefaults.max_shard_size,
    pad: bool = ExportDefaults.pad,
    method: str | None = None,
    samples: int | None = None,
    jobs: int = ExportDefaults.jobs,
    memory_gb: float | None = None,
    force: bool = False,
    on_event: EventHandler = ignore,
) -> list[ExportRecord]:
    """Finish points of a run and write them as ``OUT/<point>/<format>``, with an index of all of OUT at its top.

    May be killed at any time and called again: what is finished is recognised and kept, what was half-written is
    swept away. Model and calibration are loaded once, and only if something is left to do.

    Args:
        run: The run, from :func:`open_run`.
        points: Points of its front.
        out: Where to; default ``exports`` inside the run directory.
        formats: Formats to write, see :data:`nas_llm.export.EXPORT_FORMATS`.
        dtype: Type of the weights: one for all formats, or by format; default each format's own.
        max_shard_size: Largest weight file of formats that can split.
        pad: Fill up with zeros what a format has no form for: parts of heads, or layers that differ.
        method: How the points are finished, see :func:`reconstruct_points`; default: the problem's.
        samples: Calibration windows of the finish; default: as many tokens as the problem says.
        jobs: Points at a time, in processes that share the loaded model; fewer where memory is short.
        memory_gb: What the process may have while it finishes points by the sequential method, GB (10^9 bytes): more of
            it saves time and changes nothing else. Default: twice the model's size in float32 plus 1 GB.
        force: Replace what lies at the targets.
        on_event: Told what happens.

    Returns:
        One record a point and format, points first. Every ``hf`` export was loaded back from disk and compared bit
        for bit with what was measured before it appeared.

    Raises:
        ConfigError: If an argument is not usable.
        ExportRefused: If a format has no form for some points; the others are done.
        ExportError: If another export is in the way, or the disk does not take it; what was finished stays.
        RunError: If the run's model or text changed.
    """
    chosen = _formats(formats, dtype, max_shard_size, pad=pad)
    if not points:
        raise ConfigError("nothing to export: no point was chosen; points are those of nas-llm front")
    check_memory(memory_gb)
    if jobs < 1:
        raise ConfigError(f"jobs = {jobs} should be at least 1")
    run = with_reconstruction(run, method=method, samples=samples)
    out = run.directory / "exports" if out is None else out
    check_folder(out, run)
    plan = plan_of_run(run)
    tasks = [make_task(run, plan, point, form, settings, out) for point in points for form, settings in chosen]
    with locked_folder(out):
        done = {} if force else _done(tasks, on_event)
        todo = [task for task in tasks if task.name not in done]
        refusals: dict[str, str] = {}
        if todo:
            try:
                _export(
                    run,
                    points,
                    todo,
                    out,
                    done,
                    refusals,
                    jobs=jobs,
                    memory_gb=memory_gb,
                    force=force,
                    on_event=on_event,
                )
            except BaseException:
                with suppress(NasLlmError):
                    write_index(out, run)
                raise
            finally:
                remove_empty(out, [point.id for point in points])
        if done:
            write_index(out, run)
    records = [done[task.name] for task in tasks if task.name in done]
    if refusals:
        raise ExportRefused(records, [refusals[task.name] for task in tasks if task.name in refusals])
    return records


def _export(
    run: Run,
    points: Sequence[FrontPoint],
    todo: Sequence[ExportTask],
    out: Path,
    done: dict[str, ExportRecord],
    refusals: dict[str, str],
    *,
    jobs: int,
    memory_gb: float | None,
    force: bool,
    on_event: EventHandler,
) -> None:
    prepared = reopen(run, on_event=on_event)
    check_space(out, todo, prepared)
    finisher = Finisher(prepared, plan=todo[0].plan, memory_gb=memory_gb, on_event=on_event)
    names = ", ".join(dict.fromkeys(task.format.name for task in todo))
    count = len({task.point.id for task in todo})
    on_event(StageStarted("export", f"{count} point{'s' if count > 1 else ''} as {names} to {out}", len(todo)))
    groups = [[task for task in todo if task.point.id == point.id] for point in points]
    answered = 0
    try:
        with closing(
            export_all(run, [group for group in groups if group], prepared, finisher, jobs=jobs, on_event=on_event)
        ) as exported:
            for tasks, answers in exported:
                for task, answer in zip(tasks, answers, strict=True):
                    if isinstance(answer, Refusal):
                        refusals[task.name] = str(answer)
                    else:
                        done[task.name] = answer
                answered += len(answers)
                on_event(StageAdvanced("export", answered))
    except ExportError as error:
        if not done:
            raise
        again = "say the same again to go on" if not force else "say the same again without --force to go on"
        raise ExportError(f"{error}; {len(done)} exports are finished and kept, {again}") from error
    on_event(StageFinished("export", str(out)))


def check_space(out: Path, tasks: Iterable[ExportTask], prepared: Prepared) -> None:
    """Refuse to begin what cannot end.

    Raises:
        ExportError: If the disk has less room than the weights need.
    """
    own = prepared.dense.model.dtype.itemsize
    needed = sum(int(_params(task, prepared) * _BYTES.get(task.settings.dtype, own)) for task in tasks)
    free = shutil.disk_usage(out).free
    if needed > free:
        raise ExportError(
            f"{out} has {display.size(free)} left and the exports need {display.size(needed)}; make room, choose "
            f"fewer points or name another place with --out"
        )


def _params(task: ExportTask, prepared: Prepared) -> int:
    """Parameters of the written file."""
    written = task.format.written(task.point.genome, prepared.dense.model.config, task.settings)
    return prepared.cost_model(written).params


def _formats(
    names: Sequence[str], dtype: str | Mapping[str, str] | None, max_shard_size: str, *, pad: bool
) -> list[tuple[ExportFormat, WriteSettings]]:
    chosen = [export_format(name) for name in dict.fromkeys(names)]
    if not chosen:
        raise ConfigError("nothing to export: no format was chosen")
    try:
        parse_size(max_shard_size)
    except ExportError as error:
        raise ConfigError(str(error)) from error
    by_format = dict(dtype) if isinstance(dtype, Mapping) else {} if dtype is None else dict.fromkeys(names, dtype)
    stray = [name for name in by_format if name not in names]
    if stray:
        raise ConfigError(f"dtype {by_format[stray[0]]} is for format '{stray[0]}', which is not among the chosen ones")
    if pad:
        check_padding(chosen)
    return [
        (
            form,
            form.settings(dtype=by_format.get(form.name), max_shard_size=max_shard_size, pad=pad),
        )
        for form in chosen
    ]


def _done(tasks: Sequence[ExportTask], on_event: EventHandler) -> dict[str, ExportRecord]:
    records = {task.name: finished(task) for task in tasks}
    kept = {name: record for name, record in records.items() if record is not None}
    for name, record in kept.items():
        on_event(Notice(f"{name} is already exported: {record.path}"))
    return kept
