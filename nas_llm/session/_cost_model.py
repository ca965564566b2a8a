"""The cost model of a problem, with the costs that classes of its user's own compute."""

from __future__ import annotations

from pathlib import Path

from nas_llm.config import Problem, load_objectives
from nas_llm.space import Architecture, CostModel, LatencyTable


def problem_costs(
    problem: Problem, architecture: Architecture, *, base_dir: Path, latency: LatencyTable | None = None
) -> CostModel:
    """What computes the costs of a problem's genomes.

    Args:
        problem: The definition.
        architecture: The dense model.
        base_dir: Folder that relative paths of the definition start from.
        latency: Measured times of the model's sublayers.

    Raises:
        ConfigError: If an objective cannot be loaded.
        SpaceError: If one gives no number above 0 for the dense model.
    """
    records = load_objectives(problem.objectives, base_dir=base_dir)
    return CostModel(
        architecture,
        sequence_length=problem.sequence_length,
        latency=latency,
        further=[record.model for record in records if record.model is not None],
    )
