"""The latency table of a run: measured once, kept with it, and only of use on the same device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from nas_llm.cache import cache_dir
from nas_llm.config import Problem
from nas_llm.errors import RunError
from nas_llm.evaluation import device_name, latency_table, read_latency_table, table_text
from nas_llm.events import EventHandler
from nas_llm.files import write_atomic
from nas_llm.models import DenseModel, resolve_device, resolve_dtype
from nas_llm.runs import LATENCY_FILE
from nas_llm.session._prepared import Prepared, search_space
from nas_llm.session._timing import Timing
from nas_llm.space import Genome, LatencyTable
from nas_llm.workloads import WorkloadTables


def measured_latency(
    dense: DenseModel,
    problem: Problem,
    device: torch.device,
    dtype: torch.dtype,
    on_event: EventHandler,
    checkpoint: Callable[[], None],
) -> LatencyTable:
    """The table that the objective latency is looked up in: from the cache, or measured now.

    Args:
        dense: The model.
        problem: The definition.
        device: Where to measure.
        dtype: Arithmetic of candidates.
        on_event: Called with every event.
        checkpoint: Called between rounds; may raise.
    """
    settings = problem.latency
    timing = Timing(stage="latency", rounds=settings.repeats, on_event=on_event, checkpoint=checkpoint)
    table = latency_table(
        dense,
        settings,
        ffn_multiple=problem.space.ffn_multiple,
        layout=search_space(problem, dense.architecture).layout,
        device=device,
        dtype=dtype if settings.dtype == "auto" else resolve_dtype(settings.dtype, device),
        cache_dir=cache_dir() / "latency",
        on_start=timing.on_start,
        on_round=timing.on_round,
    )
    timing.finished(table(Genome.dense(dense.architecture)), table.device)
    return table


def write_latency(directory: Path, prepared: Prepared) -> None:
    """Write ``latency.json``, the run's latency table, where it has one."""
    table = prepared.cost_model.latency
    if table is not None:
        write_atomic(directory / LATENCY_FILE, table_text(table))


def run_latency(directory: Path, problem: Problem) -> LatencyTable | None:
    """The latency table that a run began with; None where no objective needs one.

    Raises:
        RunError: If it is missing or damaged.
    """
    return read_latency_table(directory / LATENCY_FILE) if problem.timed else None


def check_same_device(
    directory: Path,
    problem: Problem,
    table: LatencyTable | None,
    workloads: Mapping[str, WorkloadTables] | None = None,
) -> None:
    """Refuse to go on with a search for the times of another device.

    Args:
        directory: The run directory.
        problem: The definition.
        table: The run's latency table, if it has one.
        workloads: The tables of its workloads, by name.

    Raises:
        RunError: If ``[latency]`` or a workload names another device here than the one the times were measured on.
        ModelError: If the device is absent.
    """
    measured = [] if table is None else [(problem.latency.device, table.device)]
    settings = {workload.name: workload.device for workload in problem.workload}
    measured += [(settings[name], tables.device) for name, tables in (workloads or {}).items() if name in settings]
    for setting, there in measured:
        here = device_name(resolve_device(problem.model.device if setting == "auto" else setting))
        if here != there:
            raise RunError(
                f"{directory} looks for subnets that are fast on {there}, this device is {here}; resume it there or "
                f"start a new run"
            )
