"""Seconds and bytes of a workload as costs that a search minimises or bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nas_llm.space import Architecture, Genome
from nas_llm.workloads._memory import memory_parts
from nas_llm.workloads._tables import WorkloadTables
from nas_llm.workloads._workload import Workload


class WorkloadMemory:
    """The cost ``WORKLOAD.memory``: bytes at the peak, see :func:`memory_parts`.

    Args:
        workload: What a subnet does.
        architecture: The dense model.
    """

    def __init__(self, workload: Workload, architecture: Architecture) -> None:
        self.name = f"{workload.name}.memory"
        self._workload, self._width = workload, architecture.intermediate_size

    def of_size(self, *, params: int, kv_cache_bytes: int) -> int:
        """Bytes of a subnet of a size; see :class:`nas_llm.space.SizeCost`."""
        return memory_parts(
            self._workload, params=params, kv_cache_bytes=kv_cache_bytes, intermediate_size=self._width
        ).total


class WorkloadSeconds:
    """The cost ``WORKLOAD.seconds``: from the prompt to the last token.

    Args:
        name: Of the workload.
        tables: Its measured times.
    """

    def __init__(self, name: str, tables: WorkloadTables) -> None:
        self.name = f"{name}.seconds"
        self._tables = tables

    @property
    def unit_costs(self) -> tuple[float, float]:
        """What one more KV group and one more FFN channel take, on average."""
        return self._tables.unit_seconds

    def __call__(self, genome: Genome) -> float:
        """Predicted seconds of a genome."""
        return self._tables(genome)


def workload_costs(
    workloads: Sequence[Workload], tables: Mapping[str, WorkloadTables], architecture: Architecture
) -> dict[str, Any]:
    """Arguments of :class:`nas_llm.space.CostModel`: memory of all workloads, seconds of those that have tables.

    Args:
        workloads: The workloads.
        tables: Measured times, by the name of the workload.
        architecture: The dense model.

    Raises:
        ConfigError: If a workload is longer than the model's positions.
    """
    for workload in workloads:
        workload.check_positions(architecture.max_positions)
    return {
        "sized": [WorkloadMemory(workload, architecture) for workload in workloads],
        "timed": [
            WorkloadSeconds(workload.name, tables[workload.name]) for workload in workloads if workload.name in tables
        ],
    }
