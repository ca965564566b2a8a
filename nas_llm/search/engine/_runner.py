"""A search in a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nas_llm.config import Problem
from nas_llm.errors import RunError
from nas_llm.events import EventHandler, ignore
from nas_llm.runs import HISTORY_FILE, RunLock
from nas_llm.search.engine._algorithm import build_algorithm
from nas_llm.search.engine._cache import EvaluationCache
from nas_llm.search.engine._checkpoint import CheckpointStore, SearchState
from nas_llm.search.engine._evaluator import Evaluator
from nas_llm.search.engine._history import History
from nas_llm.search.engine._ledger import Ledger
from nas_llm.search.engine._loop import SearchLoop, SearchResult
from nas_llm.search.engine._problem import SubnetProblem
from nas_llm.search.operators import build_operators
from nas_llm.space import CostConstraints, CostModel, Genome, SearchSpace, UnitScores, check_feasible


class Search:
    """One search in one run directory; killed anywhere and resumed, it ends where an unbroken one does.

    All randomness lives in the algorithm, which is checkpointed after every generation. A generation that was cut
    off is asked for again, identically, and what it had evaluated already is taken from the history. A generation that
    the budget cuts short is not checkpointed, so a resumption with a larger budget also goes on as if never stopped.

    Args:
        problem: Objectives, constraints, algorithm, budget, seed.
        space: Where genomes have to lie.
        cost_model: Exact costs of genomes.
        scores: Importance of all units.
        evaluator: Measures the quality objective.
        directory: The run directory; ``history.sqlite`` and ``checkpoint/`` are written there.
        cache: Evaluations shared with other runs.
        on_event: Called with every event.
        should_stop: Polled between candidates; True ends the search cleanly, to be resumed.
        dense: Objectives of the dense model; measured once (outside of the budget, unless the dense model is itself a
            candidate) when not given.
        start: Genomes of an earlier search or an export that the first population takes in, repaired to this space.

    Raises:
        SpaceError: If no genome can meet the constraints.
        ConfigError: If the algorithm or one of its arguments is unknown.
    """

    def __init__(
        self,
        *,
        problem: Problem,
        space: SearchSpace,
        cost_model: CostModel,
        scores: UnitScores,
        evaluator: Evaluator,
        directory: Path,
        cache: EvaluationCache | None = None,
        on_event: EventHandler = ignore,
        should_stop: Callable[[], bool] = lambda: False,
        dense: Mapping[str, float] | None = None,
        start: Sequence[Genome] = (),
    ) -> None:
        constraints = CostConstraints(problem.bounds)
        check_feasible(space, cost_model, constraints)
        self.problem = problem
        self.directory = directory
        self._cache = cache
        self._on_event = on_event
        self._should_stop = should_stop
        self._given_dense = dense
        self._subnets = SubnetProblem(
            objectives=problem.objective_names,
            space=space,
            cost_model=cost_model,
            constraints=constraints,
            evaluator=evaluator,
        )
        self._operators = build_operators(
            problem.search.operators,
            space=space,
            scores=scores,
            cost_model=cost_model,
            constraints=problem.bounds,
            prices=problem.prices,
            start=start,
            targets=problem.search.target_ratios,
        )
        # Fails now rather than after a run directory was made.
        self._algorithm()
        self._checkpoints = CheckpointStore(
            directory,
            shared={
                "problem": self._subnets,
                "space": space,
                "scores": scores,
                "cost_model": cost_model,
                "sensitivities": self._operators.sensitivities,
            },
        )

    def run(self, *, resume: bool) -> SearchResult:
        """Search until the budget is spent, the space exhausted, or somebody says stop.

        Args:
            resume: Go on with what the directory holds (if anything); otherwise it must hold no search.

        Raises:
            RunError: If the directory is in use, holds a search that is not to be resumed, or one of another problem.
        """
        with RunLock(self.directory):
            path = self.directory / HISTORY_FILE
            if not resume and (path.exists() or self._checkpoints.files()):
                raise RunError(f"run directory {self.directory} already holds a search; resume it or name another one")
            with History(path, self.problem.objective_names) as history:
                ledger = Ledger(
                    history,
                    self._subnets,
                    cache=self._cache,
                    on_event=self._on_event,
                    should_stop=self._should_stop,
                    budget=self.problem.search.evaluations,
                    racing=self.problem.fitness.racing,
                )
                loop = SearchLoop(
                    ledger,
                    self._checkpoints,
                    self._operators.sensitivities,
                    on_event=self._on_event,
                    budget=self.problem.search.evaluations,
                    dense=self._given_dense,
                )
                return loop.run(self._checkpoints.load_latest(self._on_event) or self._fresh())

    def _fresh(self) -> SearchState:
        return SearchState(generation=0, evaluations=0, stalled=0, algorithm=self._algorithm())

    def _algorithm(self) -> Any:
        return build_algorithm(self.problem.search, self._operators, self._subnets, seed=self.problem.seed)
