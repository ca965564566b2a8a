"""Points of a front finished and measured, without being written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas_llm.errors import ConfigError, RunError
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.files import write_atomic
from nas_llm.finishing import (
    Finished,
    Finisher,
    FinishPlan,
    ResidualRow,
    plan_of_run,
    release_memory,
    residual_csv,
    residual_rows,
    with_reconstruction,
)
from nas_llm.front import FrontPoint
from nas_llm.models import on_device
from nas_llm.runs import RECONSTRUCTION_FOLDER, Run
from nas_llm.session import Prepared, SubnetMeasure, check_memory, reopen
from nas_llm.space import Cost
from nas_llm.subnet import build_subnet


@dataclass(frozen=True, kw_only=True)
class ReconstructionRecord:
    """One point finished by a method, and what it brought.

    Attributes:
        point: The point of the front.
        settings: ``method``, and for methods but ``none`` its settings, ``tokens`` and ``text``; ``chosen`` has what
            this point took of several steps or blends.
        fitness_perplexity: (before, after) on the windows that the search saw; before = inherited weights.
        held_out_perplexity: (before, after) on windows that the search never saw.
        seconds: Time of the reconstruction; of points that went through in one pass, each has an equal share.
        residuals: One row a refitted projection.
        path: The same as a CSV file.
        texts: (before, after) on every kind of held-out text and of off-text.
    """

    point: FrontPoint
    settings: Mapping[str, Any]
    fitness_perplexity: tuple[float, float]
    held_out_perplexity: tuple[float, float]
    seconds: float
    residuals: tuple[ResidualRow, ...]
    path: Path
    texts: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """The point's exact cost."""
        return self.point.cost


def reconstruct_points(
    run: Run,
    points: Sequence[FrontPoint],
    *,
    method: str | None = None,
    samples: int | None = None,
    damping: float | Sequence[float] | None = None,
    target: str | float | None = None,
    step: float | Sequence[float] | None = None,
    blend: float | Sequence[float] | None = None,
    memory_gb: float | None = None,
    on_event: EventHandler = ignore,
) -> list[ReconstructionRecord]:
    """Finish points of a run and measure what it brings.

    Residuals of each point go to ``reconstruction/<point>-<method>.csv`` of the run directory as soon as it is done.

    Args:
        run: The run, from :func:`open_run`.
        points: Points of its front.
        method: ``sequential``, ``closed_form``, ``admm``, ``none``, or one of your own, see
            :class:`nas_llm.finishing.FinishingMethod`; default: the problem's.
        samples: Calibration windows; default: as many tokens as the problem says.
        damping: Ridge, or several to choose between; default: the problem's.
        target: ``residual``, ``sublayer`` or a number from 0 (sublayer) to 1; default: the problem's.
        step: Share of each update that ``sequential`` makes, or several to choose between; default: the problem's.
        blend: Share of what ``sequential`` made that ends in the weights, or several; default: the problem's.
        memory_gb: See :func:`export_points`.
        on_event: Told what happens.

    Returns:
        One record a point.

    Raises:
        ConfigError: If an argument is not usable.
        DataError: If the text is too short.
        RunError: If the run's model or text changed, or the run directory cannot be written.
    """
    if not points:
        raise ConfigError("nothing to reconstruct: no point was chosen; points are those of nas-llm front")
    check_memory(memory_gb)
    run = with_reconstruction(
        run, method=method, samples=samples, damping=damping, target=target, step=step, blend=blend
    )
    plan = plan_of_run(run)
    prepared = reopen(run, on_event=on_event)
    folder = run.directory / RECONSTRUCTION_FOLDER
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror or error}") from error
    finisher = Finisher(prepared, plan=plan, memory_gb=memory_gb, on_event=on_event)
    records = []
    for group in _groups(points, finisher.at_once()):
        started = time.monotonic()
        finished = finisher.finish(group, on_event=on_event)
        seconds = (time.monotonic() - started) / len(group)
        on_event(StageStarted("measuring", "perplexity before and after", len(group)))
        for done, (point, result) in enumerate(zip(group, finished, strict=True), start=1):
            records.append(_record(prepared, plan, point, result, seconds, folder))
            on_event(StageAdvanced("measuring", done))
        on_event(StageFinished("measuring"))
    return records


def _groups(points: Sequence[FrontPoint], size: int) -> Iterator[Sequence[FrontPoint]]:
    for start in range(0, len(points), size):
        yield points[start : start + size]


def _record(
    prepared: Prepared, plan: FinishPlan, point: FrontPoint, finished: Finished, seconds: float, folder: Path
) -> ReconstructionRecord:
    rows = residual_rows(finished.residuals or ())
    path = folder / f"{point.id}-{plan.kind.name}.csv"
    write_atomic(path, residual_csv(rows))
    perplexities = []
    for edit in (None, finished.edit):
        subnet = build_subnet(prepared.dense, point.genome, edit=edit, dtype=prepared.dtype, share_outside=True)
        perplexities.append(SubnetMeasure(prepared)(on_device(subnet, prepared.device)))
        del subnet
        release_memory()
    before, after = perplexities
    return ReconstructionRecord(
        point=point,
        settings=plan.describe(prepared.splits.finish, finished.chosen),
        fitness_perplexity=(before.fitness, after.fitness),
        held_out_perplexity=(before.held_out, after.held_out),
        texts={kind: (value, after.texts[kind]) for kind, value in before.texts.items()},
        seconds=seconds,
        residuals=rows,
        path=path,
    )
