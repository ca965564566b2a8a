"""The cost model of a problem, with the costs that classes of its user's own compute."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nas_llm.config import Problem, load_objectives
from nas_llm.space import Architecture, CostModel, LatencyTable
from nas_llm.workloads import WorkloadTables, workload_costs


def problem_costs(
    problem: Problem,
    architecture: Architecture,
    *,
    base_dir: Path,
    dtype: str,
    latency: LatencyTable | None = None,
    workloads: Mapping[str, WorkloadTables] | None = None,
) -> CostModel:
    """What computes the costs of a problem's genomes.

    Args:
        problem: The definition.
        architecture: The dense model.
        base_dir: Folder that relative paths of the definition start from.
        dtype: Arithmetic of candidates, which workloads take where they name no type.
        latency: Measured times of the model's sublayers.
        workloads: Those of workloads, by name.

    Raises:
        ConfigError: If an objective cannot be loaded, or a workload is longer than the model's positions.
        SpaceError: If one gives no number above 0 for the dense model.
    """
    records = load_objectives(problem.objectives, base_dir=base_dir)
    return CostModel(
        architecture,
        sequence_length=problem.sequence_length,
        latency=latency,
        further=[record.model for record in records if record.model is not None],
        **workload_costs([workload.resolved(dtype) for workload in problem.workload], workloads or {}, architecture),
    )
