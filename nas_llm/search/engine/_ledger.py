"""Evaluates every genome once: from the history, from the shared cache, or by the evaluator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from nas_llm.errors import Interrupted, RunError
from nas_llm.events import CandidateEvaluated, EventHandler
from nas_llm.search.engine._cache import CachedEvaluator, EvaluationCache
from nas_llm.search.engine._history import History
from nas_llm.search.engine._problem import SubnetProblem
from nas_llm.space import Evaluation, Genome, objective


class Ledger:
    """The evaluations of a run.

    Args:
        history: Where they are kept.
        problem: Costs, objectives and the evaluator.
        cache: Evaluations shared with other runs.
        on_event: Called with each new evaluation.
        should_stop: Polled between candidates.
        budget: Evaluations allowed, for the events.
        racing: Tell the evaluator what each genome has to beat, so that it may give up early.
    """

    def __init__(
        self,
        history: History,
        problem: SubnetProblem,
        *,
        cache: EvaluationCache | None,
        on_event: EventHandler,
        should_stop: Callable[[], bool],
        budget: int,
        racing: bool = False,
    ) -> None:
        self.problem = problem
        self._history = history
        self._cache = cache
        self._on_event = on_event
        self._should_stop = should_stop
        self._budget = budget
        self._racing = racing
        self._known = {row.digest: row for row in history.rows()}

    def get(self, digest: str) -> Evaluation | None:
        """The evaluation of a genome, if there is one."""
        return self._known.get(digest)

    def rows(self) -> list[Evaluation]:
        """All evaluations by ascending ordinal."""
        return sorted(self._known.values(), key=lambda row: row.ordinal)

    def evaluate(self, genomes: Sequence[Genome], *, first_ordinal: int, generation: int) -> None:
        """Make sure that genomes are evaluated; each new value is committed as soon as it is known.

        Args:
            genomes: Distinct feasible genomes in the order of asking.
            first_ordinal: Ordinal of the first one; the others follow.
            generation: Who asks.

        Raises:
            Interrupted: If ``should_stop`` says so.
            RunError: If the history holds other genomes in these places.
        """
        places = {genome.digest(): ordinal for ordinal, genome in enumerate(genomes, first_ordinal)}
        self._check(places)
        missing = [genome for genome in genomes if genome.digest() not in self._known]

        def record(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
            genome = missing[index]
            row = self._history.record(
                ordinal=places[genome.digest()],
                generation=generation,
                genome=genome,
                quality=value,
                cost=self.problem.cost_model(genome),
                seconds=seconds,
                fidelity=fidelity,
            )
            self._known[row.digest] = row
            self._on_event(
                CandidateEvaluated(
                    evaluations=len(self._known),
                    budget=self._budget,
                    objectives=row.objectives,
                    seconds=seconds,
                    evaluation=row,
                )
            )

        # Bars from finished generations alone: a generation that was cut off and resumed races as an unbroken one.
        earlier = [row for row in self._known.values() if row.ordinal < first_ordinal]
        bars = [self._bar(genome, earlier) for genome in missing] if self._racing else None
        evaluator = CachedEvaluator(self.problem.evaluator, self._cache, should_stop=self._should_stop)
        evaluator.evaluate(missing, on_result=record, bars=bars)

    def _bar(self, genome: Genome, rows: Sequence[Evaluation]) -> float:
        """The best quality among rows that cost no more in any objective."""
        quality = self.problem.quality
        costs = {name: value for name, value in self.problem.objective_values(genome, 0.0).items() if name != quality}
        return min(
            (
                row.objectives[quality]
                for row in rows
                if row.fidelity == 1.0 and all(row.objectives[name] <= cost for name, cost in costs.items())
            ),
            default=math.inf,
        )

    def dense_quality(self, *, measure: bool) -> float | None:
        """The dense model's value of the quality objective: recorded, a candidate's, or, if allowed, measured now."""
        known_before = objective(self.problem.quality).dense
        if known_before is not None:
            return known_before
        quality = self._history.dense_quality
        if quality is not None:
            return quality
        genome = Genome.dense(self.problem.cost_model.architecture, self.problem.space.layout)
        known = self._known.get(genome.digest())
        if known is not None:
            quality = known.objectives[self.problem.quality]
        elif measure:
            if self._should_stop():
                raise Interrupted
            quality = CachedEvaluator(self.problem.evaluator, self._cache).evaluate([genome])[0]
        if quality is not None:
            self._history.record_dense_quality(quality)
        return quality

    def _check(self, places: dict[str, int]) -> None:
        """Refuse a history that another problem or seed has written, before anything is spent on it."""
        ordinals = set(places.values())
        for row in self._known.values():
            if places.get(row.digest, row.ordinal) != row.ordinal or (
                row.ordinal in ordinals and row.digest not in places
            ):
                raise RunError(
                    f"{self._history.path} has another genome as evaluation {row.ordinal} than this problem and seed "
                    f"ask for; start over with another directory"
                )
