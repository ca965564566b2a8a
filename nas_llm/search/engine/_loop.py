"""The search loop: ask, evaluate, tell, checkpoint."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nas_llm.errors import Interrupted
from nas_llm.events import EventHandler, GenerationFinished, Notice
from nas_llm.front import non_dominated
from nas_llm.search.engine._checkpoint import CheckpointStore, SearchState
from nas_llm.search.engine._hypervolume import normalised_hypervolume
from nas_llm.search.engine._learning import learn
from nas_llm.search.engine._ledger import Ledger
from nas_llm.search.operators import SensitivityModel
from nas_llm.space import Evaluation, Genome

logger = logging.getLogger(__name__)

_MOST_STALLS = 20


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What came of a search.

    Attributes:
        evaluations: All evaluated genomes by ascending ordinal.
        front: The non-dominated ones among them, by ascending ordinal.
        generations: Generations that were completed, one that the budget cut short included.
        hypervolume: Normalised hypervolume of all evaluated genomes; 0 while the dense model's quality is not known.
        dense: Objectives of the dense model; without the quality objective while that is not known.
        interrupted: Whether it was stopped before the budget was spent.
    """

    evaluations: tuple[Evaluation, ...]
    front: tuple[Evaluation, ...]
    generations: int
    hypervolume: float
    dense: Mapping[str, float]
    interrupted: bool


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What of a generation is to be evaluated, and whether the budget ends within it."""

    fresh: list[Genome]
    cut_short: bool


class SearchLoop:
    """Drives one algorithm through its generations.

    Args:
        ledger: Evaluates genomes.
        checkpoints: Where states go after each generation.
        sensitivities: What the operators have learned; fitted before each generation.
        on_event: Called with every event.
        budget: Distinct genomes to evaluate.
        dense: Objectives of the dense model, where the caller knows them.
    """

    def __init__(
        self,
        ledger: Ledger,
        checkpoints: CheckpointStore,
        sensitivities: SensitivityModel,
        *,
        on_event: EventHandler,
        budget: int,
        dense: Mapping[str, float] | None,
    ) -> None:
        self._ledger = ledger
        self._problem = ledger.problem
        self._checkpoints = checkpoints
        self._sensitivities = sensitivities
        self._on_event = on_event
        self._budget = budget
        self._given_dense = dense
        self._started = time.monotonic()

    def run(self, state: SearchState) -> SearchResult:
        """Go on from a state until the budget is spent, nothing new turns up, or somebody says stop."""
        try:
            while state.evaluations < self._budget:
                if state.stalled >= _MOST_STALLS:
                    self._on_event(
                        Notice(
                            f"{state.stalled} generations brought no new genome: the space is exhausted at "
                            f"{state.evaluations} evaluations"
                        )
                    )
                    break
                state = self._step(state)
            dense = self._dense(measure=True)
        except Interrupted:
            return self._result(state, self._dense(measure=False), interrupted=True)
        return self._result(state, dense, interrupted=False)

    def _step(self, state: SearchState) -> SearchState:
        algorithm = state.algorithm
        self._learn(state)
        population = algorithm.ask()
        if population is None or len(population) == 0:
            # pymoo ends an algorithm whose mating found nothing new; its random state has moved on, so ask again.
            algorithm.termination.force_termination = False
            return replace(state, stalled=state.stalled + 1)
        genomes: list[Genome] = [individual.X[0] for individual in population]
        rows = np.stack([self._problem.constraint_row(genome) for genome in genomes])
        plan = self._plan(genomes, rows, state)
        generation = state.generation + 1
        self._ledger.evaluate(plan.fresh, first_ordinal=state.evaluations + 1, generation=generation)
        following = SearchState(
            generation=generation,
            evaluations=state.evaluations + len(plan.fresh),
            stalled=0 if plan.fresh else state.stalled + 1,
            algorithm=algorithm,
        )
        if not plan.cut_short:
            self._tell(algorithm, population, genomes, rows)
            self._checkpoints.save(following)
        self._report(following)
        return following

    def _learn(self, state: SearchState) -> None:
        """On completed generations only, so that a resumption learns the same."""
        rows = [row for row in self._ledger.rows() if row.ordinal <= state.evaluations]
        learn(self._sensitivities, rows, self._problem)

    def _plan(self, genomes: Sequence[Genome], rows: Any, state: SearchState) -> _Plan:
        """Pick what is to be evaluated: feasible, not evaluated in an earlier generation, within the budget."""
        fresh: dict[str, Genome] = {}
        for genome, row in zip(genomes, rows, strict=True):
            known = self._ledger.get(genome.digest())
            completed = known is not None and known.ordinal <= state.evaluations
            if (row > 0.0).any() or completed or genome.digest() in fresh:
                continue
            if state.evaluations + len(fresh) == self._budget:
                return _Plan(fresh=list(fresh.values()), cut_short=True)
            fresh[genome.digest()] = genome
        return _Plan(fresh=list(fresh.values()), cut_short=False)

    def _tell(self, algorithm: Any, population: Any, genomes: Sequence[Genome], rows: Any) -> None:
        objectives = []
        for genome in genomes:
            known = self._ledger.get(genome.digest())
            objectives.append(
                self._problem.infeasible_row(genome) if known is None else self._problem.objective_row(known.objectives)
            )
        population.set("F", np.stack(objectives), "G", rows)
        for individual in population:
            individual.evaluated.update(("F", "G", "H"))
        algorithm.eliminate_duplicates.complete(genome.digest() for genome in genomes)
        algorithm.tell(infills=population)

    def _report(self, state: SearchState) -> None:
        rows = [row for row in self._ledger.rows() if row.ordinal <= state.evaluations]
        front = self._front(rows)
        dense = self._dense(measure=True)
        hypervolume = self._hypervolume(rows, dense)
        logger.info("generation %d: %d evaluations, hypervolume %.4f", state.generation, len(rows), hypervolume)
        self._on_event(
            GenerationFinished(
                generation=state.generation,
                evaluations=state.evaluations,
                budget=self._budget,
                hypervolume=hypervolume,
                front=tuple(row.objectives for row in front),
                seconds=time.monotonic() - self._started,
                dense=dense,
            )
        )

    def _result(self, state: SearchState, dense: Mapping[str, float], *, interrupted: bool) -> SearchResult:
        rows = self._ledger.rows()
        return SearchResult(
            evaluations=tuple(rows),
            front=tuple(self._front(rows)),
            generations=state.generation,
            hypervolume=self._hypervolume(rows, dense),
            dense=dense,
            interrupted=interrupted,
        )

    def _front(self, rows: Sequence[Evaluation]) -> list[Evaluation]:
        names = self._problem.objectives
        return [rows[index] for index in non_dominated([[row.objectives[name] for name in names] for row in rows])]

    def _hypervolume(self, rows: Sequence[Evaluation], dense: Mapping[str, float]) -> float:
        names = self._problem.objectives
        if self._problem.quality not in dense:
            return 0.0
        return normalised_hypervolume([[row.objectives[name] for name in names] for row in rows], names, dense)

    def _dense(self, *, measure: bool) -> Mapping[str, float]:
        if self._given_dense is not None:
            return self._given_dense
        quality = self._ledger.dense_quality(measure=measure)
        return {**self._problem.dense_costs, **({} if quality is None else {self._problem.quality: quality})}
