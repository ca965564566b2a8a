"""Latency tables of a workload: of its prefill, and of decoding at both ends of its answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from nas_llm.config import LatencySection, WorkloadSection
from nas_llm.evaluation._latency_table import latency_table
from nas_llm.models import DenseModel
from nas_llm.settings import LatencyDefaults, SpaceDefaults
from nas_llm.space import AttentionLayout
from nas_llm.workloads import WorkloadTables


def workload_tables(
    dense: DenseModel,
    workload: WorkloadSection,
    *,
    points: int = LatencyDefaults.points,
    repeats: int = LatencyDefaults.repeats,
    ffn_multiple: int = SpaceDefaults.ffn_multiple,
    layout: AttentionLayout | None = None,
    device: torch.device,
    dtype: torch.dtype,
    cache_dir: Path,
    on_start: Callable[[str], None] = lambda detail: None,
    on_round: Callable[[int], None] = lambda done: None,
) -> WorkloadTables:
    """The tables of a model under a workload: from the cache, or measured now and kept there.

    They are anchored, so that the dense model's prediction is its own time, unless its blocks stay in their files; see
    :func:`measure_latency_table`.

    Args:
        dense: The model.
        workload: What it does.
        points: Sizes of a sublayer that are measured, at most.
        repeats: Rounds of measurement.
        ffn_multiple: What kept FFN channels are a multiple of.
        layout: Of attention masks.
        device: Where.
        dtype: Type of the weights.
        cache_dir: Folder of tables.
        on_start: Called with a line about each table that is measured.
        on_round: Called with the number of rounds of it that are done.

    Raises:
        ConfigError: If the workload is longer than the model's positions.
        RunError: If a table cannot be kept.
    """
    load = workload.resolved(str(dtype).removeprefix("torch."))
    load.check_positions(dense.architecture.max_positions)
    common = {"batch": load.batch, "threads": workload.threads, "points": points, "repeats": repeats}
    passes = [
        LatencySection(phase="prefill", tokens=load.prompt, **common),
        *(LatencySection(phase="decode", context=context, **common) for context in load.contexts),
    ]
    prefill, *decode = (
        latency_table(
            dense,
            settings,
            ffn_multiple=ffn_multiple,
            layout=layout,
            device=device,
            dtype=dtype,
            cache_dir=cache_dir,
            # A model that stays in its files may be larger than memory.
            anchored=dense.files is None,
            on_start=on_start,
            on_round=on_round,
        )
        for settings in passes
    )
    return WorkloadTables(prefill=prefill, decode=tuple(decode), new_tokens=load.new_tokens)
