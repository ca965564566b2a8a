"""A session's search as a pymoo problem: raw values, everything evaluated once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from pymoo.core.callback import Callback
from pymoo.core.problem import Problem

from nas_llm.search import SubnetProblem
from nas_llm.space import Evaluation, FloatArray, Genome, objective


class SessionProblem(Problem):  # type: ignore[misc]
    """One variable that holds a genome; ``F`` has raw objectives, all minimised, ``G`` the constraints.

    Genomes outside of the space or of a constraint are not run: they get the worst quality that there is, at their
    own cost. So does a subnet that is broken, whose perplexity would be no number.

    Args:
        subnets: Objectives, space and constraints.
        evaluate: Evaluates genomes and keeps the results; takes the generation that asks.
    """

    def __init__(
        self, subnets: SubnetProblem, evaluate: Callable[[Sequence[Genome], int | None], Sequence[Evaluation]]
    ) -> None:
        super().__init__(n_var=1, n_obj=subnets.n_obj, n_ieq_constr=subnets.n_ieq_constr, vtype=object)
        self._subnets = subnets
        self._do_evaluate = evaluate
        self.objectives = subnets.objectives

    def __deepcopy__(self, memo: dict[int, Any]) -> SessionProblem:
        """The same object: pymoo copies problems into histories, and this one holds a model."""
        return self

    def _evaluate(self, X: Any, out: dict[str, Any], *args: Any, algorithm: Any = None, **kwargs: Any) -> None:
        genomes: list[Genome] = list(np.asarray(X, dtype=object).reshape(-1))
        rows = np.stack([self._subnets.constraint_row(genome) for genome in genomes])
        feasible = [genome for genome, row in zip(genomes, rows, strict=True) if (row <= 0.0).all()]
        generation = getattr(algorithm, "n_gen", None)
        found = {row.digest: row for row in self._do_evaluate(feasible, generation)}
        out["G"] = rows
        out["F"] = np.stack([self._values(genome, found.get(genome.digest())) for genome in genomes])

    def _values(self, genome: Genome, evaluation: Evaluation | None) -> FloatArray:
        values = (
            self._subnets.objective_values(genome, float("inf")) if evaluation is None else dict(evaluation.objectives)
        )
        # Scaled and back: what is infinite comes back as the worst finite value.
        dense = self._subnets.dense_costs
        records = {name: objective(name) for name in self.objectives}
        return np.array(
            [
                record.raw(record.scaled(values[name], dense.get(name, 1.0)), dense.get(name, 1.0))
                if not np.isfinite(values[name])
                else values[name]
                for name, record in records.items()
            ],
            dtype=np.float64,
        )


class SessionCallback(Callback):  # type: ignore[misc]
    """Tells a session when a generation of a pymoo algorithm is over.

    Args:
        on_generation: Called with the generation.
    """

    def __init__(self, on_generation: Callable[[int], None]) -> None:
        super().__init__()
        self._on_generation = on_generation

    def __deepcopy__(self, memo: dict[int, Any]) -> SessionCallback:
        """The same object, see :class:`SessionProblem`."""
        return self

    def notify(self, algorithm: Any) -> None:
        """Called by pymoo after each generation."""
        self._on_generation(int(algorithm.n_gen))
