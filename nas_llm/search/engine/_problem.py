"""The search as a pymoo problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymoo.core.problem import Problem

from nas_llm.errors import ConfigError
from nas_llm.search.engine._evaluator import Evaluator, comparable, unheard
from nas_llm.search.engine._hypervolume import search_scale
from nas_llm.space import CostConstraints, CostModel, FloatArray, Genome, SearchSpace, objective, the_quality


class SubnetProblem(Problem):  # type: ignore[misc]
    """One variable that holds a genome; all objectives are minimised, on the scale of :func:`search_scale`.

    Inequality constraints: how often the genome lies outside of the space, then the cost bounds, as fractions. A
    search evaluates genomes itself; ``_evaluate`` is for pymoo's own ``minimize``.

    Args:
        objectives: Names, exactly one of them a quality objective.
        space: Where genomes have to lie.
        cost_model: Exact costs of genomes.
        constraints: Bounds on the cost.
        evaluator: Measures the quality objective.

    Raises:
        ConfigError: If none of the objectives is measured, or one is predicted from a latency table and the cost model
            has none.
        SpaceError: If the cost model does not know an objective.
    """

    def __init__(
        self,
        *,
        objectives: Sequence[str],
        space: SearchSpace,
        cost_model: CostModel,
        constraints: CostConstraints,
        evaluator: Evaluator,
    ) -> None:
        for name in objectives:
            if objective(name).timed and cost_model.latency is None:
                raise ConfigError(f"the objective {name} needs a latency table; give one to the cost model")
        super().__init__(n_var=1, n_obj=len(objectives), n_ieq_constr=1 + len(constraints.bounds), vtype=object)
        self.objectives = tuple(objectives)
        self.quality = the_quality(self.objectives)
        self.space = space
        self.cost_model = cost_model
        self.constraints = constraints
        self.evaluator = evaluator
        self.dense_costs: Mapping[str, float] = {
            name: cost_model.dense.value(name) for name in self.objectives if name != self.quality
        }

    def objective_values(self, genome: Genome, quality: float) -> dict[str, float]:
        """Raw objectives of a genome whose quality was measured."""
        cost = self.cost_model(genome)
        return {name: quality if name == self.quality else cost.value(name) for name in self.objectives}

    def objective_row(self, objectives: Mapping[str, float]) -> FloatArray:
        """``F`` of a genome from its raw objectives."""
        return search_scale(objectives, self.objectives, self.dense_costs)

    def constraint_row(self, genome: Genome) -> FloatArray:
        """``G`` of a genome; nothing above 0 = feasible."""
        outside = float(len(self.space.violations(genome)))
        return np.concatenate([[outside], self.constraints.violations(self.cost_model(genome))])

    def infeasible_row(self, genome: Genome) -> FloatArray:
        """``F`` of a genome that is not worth measuring: the worst quality there is, at its own cost."""
        return self.objective_row(self.objective_values(genome, float("inf")))

    def _evaluate(self, X: Any, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        genomes: list[Genome] = list(np.asarray(X, dtype=object).reshape(-1))
        rows = np.stack([self.constraint_row(genome) for genome in genomes])
        feasible = [genome for genome, row in zip(genomes, rows, strict=True) if (row <= 0.0).all()]
        values = map(comparable, self.evaluator.evaluate(feasible, on_result=unheard))
        out["G"] = rows
        out["F"] = np.stack(
            [
                self.objective_row(self.objective_values(genome, next(values)))
                if (row <= 0.0).all()
                else self.infeasible_row(genome)
                for genome, row in zip(genomes, rows, strict=True)
            ]
        )
