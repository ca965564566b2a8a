"""What evaluations teach the operators."""

from __future__ import annotations

from collections.abc import Sequence

from nas_llm.search.engine._problem import SubnetProblem
from nas_llm.search.operators import SensitivityModel
from nas_llm.space import Evaluation


def learn(sensitivities: SensitivityModel, rows: Sequence[Evaluation], problem: SubnetProblem) -> None:
    """Fit the sensitivities of all layers to evaluations.

    Args:
        sensitivities: The model; what it learned before is replaced.
        rows: All evaluations to learn from.
        problem: Says how the quality objective is scaled.
    """
    column = problem.objectives.index(problem.quality)
    sensitivities.fit(
        (
            row.digest,
            None if sensitivities.knows(row.digest) else row.genome,
            float(problem.objective_row(row.objectives)[column]),
        )
        for row in rows
    )
