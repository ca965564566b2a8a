"""The tables of a run's workloads: measured once, kept with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from nas_llm.cache import cache_dir
from nas_llm.config import Problem, WorkloadSection
from nas_llm.evaluation import workload_tables
from nas_llm.events import EventHandler
from nas_llm.files import write_atomic
from nas_llm.models import DenseModel, resolve_device, resolve_dtype
from nas_llm.runs import WORKLOADS_FILE, read_workloads
from nas_llm.session._prepared import search_space
from nas_llm.session._timing import Timing
from nas_llm.space import Genome
from nas_llm.workloads import WorkloadTables


def measured_workload(
    dense: DenseModel,
    problem: Problem,
    workload: WorkloadSection,
    dtype: torch.dtype,
    on_event: EventHandler,
    checkpoint: Callable[[], None] = lambda: None,
) -> WorkloadTables:
    """The tables that a workload's seconds are looked up in: from the cache, or measured now.

    Args:
        dense: The model.
        problem: The definition.
        workload: One of its workloads, or another.
        dtype: Arithmetic of candidates.
        on_event: Called with every event.
        checkpoint: Called between rounds; may raise.

    Raises:
        ConfigError: If the workload is longer than the model's positions.
        ModelError: If its device is absent.
    """
    device = resolve_device(problem.model.device if workload.device == "auto" else workload.device)
    repeats = problem.latency.repeats
    timing = Timing(stage=f"workload {workload.name}", rounds=repeats, on_event=on_event, checkpoint=checkpoint)
    tables = workload_tables(
        dense,
        workload,
        points=problem.latency.points,
        repeats=repeats,
        ffn_multiple=problem.space.ffn_multiple,
        layout=search_space(problem, dense.architecture).layout,
        device=device,
        dtype=dtype if workload.dtype == "auto" else resolve_dtype(workload.dtype, device),
        cache_dir=cache_dir() / "latency",
        on_start=timing.on_start,
        on_round=timing.on_round,
    )
    timing.finished(tables(Genome.dense(dense.architecture)), tables.device)
    return tables


def write_workloads(directory: Path, tables: Mapping[str, WorkloadTables]) -> None:
    """Write ``workloads.json``, the tables of a run's workloads, where it has any."""
    if tables:
        text = json.dumps({name: found.to_dict() for name, found in tables.items()}, indent=1)
        write_atomic(directory / WORKLOADS_FILE, f"{text}\n")


def run_workloads(directory: Path, problem: Problem) -> dict[str, WorkloadTables] | None:
    """The tables that a run began with; None where it needs none.

    Raises:
        RunError: If they are missing or damaged.
    """
    wanted = [workload.name for workload in problem.timed_workloads]
    return read_workloads(directory, wanted) if wanted else None
