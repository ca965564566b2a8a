"""What all trials of a process share: model, text, calibration, evaluators, the evaluation cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path

from nas_llm.cache import cache_dir
from nas_llm.config import Problem
from nas_llm.data import WindowSet
from nas_llm.events import EventHandler, ignore
from nas_llm.front import non_dominated
from nas_llm.search.engine import CachedEvaluator, EvaluationCache, Search, normalised_hypervolume
from nas_llm.session import Prepared, RayEvaluator, Resources, prepare
from nas_llm.space import OBJECTIVES, Evaluation, Genome
from nas_llm.studies.definition import LoadedStudy
from nas_llm.subnet import PopulationEvaluator

_Identified = PopulationEvaluator | RayEvaluator


class Workbench:
    """Everything that a trial needs and that no trial changes; made once a process.

    Args:
        loaded: The study.
        on_event: Called with every event of the preparation.
        should_stop: Polled between steps.
        resources: Threads and memory.
        shared_cache: Whether evaluations are shared with other processes and runs. With the objective ``seconds``
            they never are: a value from a cache takes no time.

    Raises:
        NasLlmError: If the problem cannot be prepared.

    Attributes:
        identity: What all values of the study depend on: model, text, metric, arithmetic, measured times, code
            of objectives of one's own.
        dense: Objectives of the dense model.
    """

    def __init__(
        self,
        loaded: LoadedStudy,
        *,
        on_event: EventHandler = ignore,
        should_stop: Callable[[], bool] = lambda: False,
        resources: Resources | None = None,
        shared_cache: bool = True,
    ) -> None:
        self.loaded = loaded
        self.definition = loaded.definition
        self.problem = loaded.problem
        self._timed = "seconds" in loaded.definition.objectives
        self._shared = shared_cache and not self._timed
        self._prepared: Prepared = prepare(
            loaded.problem,
            base_dir=loaded.loaded.base_dir,
            on_event=on_event,
            should_stop=should_stop,
            resources=resources,
        )
        self._evaluators: dict[tuple[object, ...], _Identified] = {}
        self._judge = self._prepared.evaluator(self._prepared.splits.fitness, metric=self.problem.quality)
        self._evaluators[self._kind(self.problem)] = self._judge
        table = self._prepared.cost_model.latency
        measured = {f"{name}.seconds": tables.digest() for name, tables in self._prepared.workloads.items()}
        measured |= {} if table is None else {"latency": table.digest()}
        times = "".join(f"|{name}={digest}" for name, digest in measured.items())
        self.identity = self._judge.identity + times + self._own()
        self._known: dict[str, float] = {}
        costs = {name: self._prepared.cost_model.dense.value(name) for name in self.problem.prices}
        quality = self.qualities([Genome.dense(self._prepared.dense.architecture, self._prepared.space.layout)])[0]
        self.dense: Mapping[str, float] = {**costs, self.problem.quality: quality}

    def search(
        self, problem: Problem, directory: Path, *, on_event: EventHandler, should_stop: Callable[[], bool]
    ) -> tuple[Evaluation, ...]:
        """Go on with a search, or start it, until it is done or told to stop.

        Args:
            problem: This study's problem with other settings.
            directory: Where the search keeps its state.
            on_event: Called with every event.
            should_stop: Polled between candidates.

        Returns:
            All evaluations so far.
        """
        evaluator = self._evaluator(problem)
        with self._cache(evaluator) as cache:
            result = Search(
                problem=problem,
                space=self._prepared.space,
                cost_model=self._prepared.cost_model,
                scores=self._prepared.calibration.scores,
                evaluator=evaluator,
                directory=directory,
                cache=cache,
                on_event=on_event,
                should_stop=should_stop,
                dense=self.dense if self._kind(problem) == self._kind(self.problem) else None,
            ).run(resume=True)
        return result.evaluations

    def hypervolume(self, problem: Problem, rows: Sequence[Evaluation]) -> float:
        """Normalised hypervolume of evaluations against the study's reference point.

        What was evaluated on less text, with other weights or only in part (racing) is evaluated again as the study's
        own problem does it, as far as it is on the front.

        Args:
            problem: What the rows were searched with.
            rows: The evaluations.
        """
        names, quality = self.problem.objective_names, self.problem.quality
        values = [dict(row.objectives) for row in rows]
        front = [int(index) for index in non_dominated([[value[name] for name in names] for value in values])]
        foreign = self._kind(problem) != self._kind(self.problem)
        again = [index for index in front if foreign or rows[index].fidelity < 1.0]
        for index, value in zip(again, self.qualities([rows[index].genome for index in again]), strict=True):
            values[index][quality] = value
        reference = self.definition.reference
        return normalised_hypervolume(
            [[values[index][name] for name in names] for index in front],
            names,
            self.dense,
            worst_quality=reference.quality,
            worst_cost=reference.cost,
        )

    def qualities(self, genomes: Sequence[Genome]) -> list[float]:
        """The quality objective of genomes on the study's own fitness text."""
        missing = {genome.digest(): genome for genome in genomes if genome.digest() not in self._known}
        with self._cache(self._judge) as cache:
            values = CachedEvaluator(self._judge, cache).evaluate(list(missing.values()))
        self._known |= zip(missing, values, strict=True)
        return [self._known[genome.digest()] for genome in genomes]

    def forget(self) -> None:
        """Make new evaluators for the next trial, so that its time does not depend on what others computed."""
        if self._timed:
            self._evaluators.clear()

    def _evaluator(self, problem: Problem) -> _Identified:
        kind = (*self._kind(problem), problem.fitness.racing)
        own = (*self._kind(self.problem), self.problem.fitness.racing)
        if kind == own and not self._timed:
            return self._judge
        if kind not in self._evaluators:
            # One beside the study's own: each keeps blocks and hidden states.
            self._evaluators.clear()
            self._evaluators[kind] = replace(self._prepared, problem=problem).evaluator(
                self._windows(problem), metric=problem.quality
            )
        return self._evaluators[kind]

    def _windows(self, problem: Problem) -> WindowSet:
        fitness, count = self._prepared.splits.fitness, problem.data.fitness.tokens // problem.data.window
        if count >= len(fitness.tokens):
            return fitness
        return WindowSet(tokens=fitness.tokens[:count], name=fitness.name, sources=fitness.sources)

    def _cache(self, evaluator: _Identified) -> AbstractContextManager[EvaluationCache | None]:
        if not self._shared:
            return nullcontext()
        return closing(EvaluationCache(cache_dir() / "evaluations.sqlite", identity=evaluator.identity))

    def _own(self) -> str:
        """Which code stands behind objectives that are not the package's."""
        uses = ((name, OBJECTIVES.use(name)) for name in self.problem.objectives)
        return "".join(f"|{name}={use.sha256 or use.version}" for name, use in uses if use is not None)

    @staticmethod
    def _kind(problem: Problem) -> tuple[object, ...]:
        """What values depend on, as far as settings of a study can change it."""
        return (problem.data.fitness.tokens // problem.data.window, problem.fitness.weights)
