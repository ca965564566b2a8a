"""The object that scripts work with: a problem with everything loaded, its operators, and what was evaluated."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from nas_llm.cache import cache_dir
from nas_llm.config import LoadedProblem, load_plugins, load_problem
from nas_llm.errors import ExportError, RunError
from nas_llm.events import EventHandler, GenerationFinished, ignore
from nas_llm.export import export_format
from nas_llm.files import write_atomic
from nas_llm.finishing import Finisher, NamedGenome
from nas_llm.front import Front, non_dominated
from nas_llm.report import write_report
from nas_llm.runs import (
    FRONT_FILE,
    HISTORY_FILE,
    REPORT_FILE,
    RunLock,
    check_same_problem,
    free_plugins,
    is_run,
    read_resolved,
    write_problem,
)
from nas_llm.search import (
    DigestDuplicates,
    EvaluationCache,
    History,
    Ledger,
    PymooCrossover,
    PymooMutation,
    PymooRepair,
    PymooSampling,
    SearchResult,
    SubnetProblem,
    build_operators,
    check_operators,
    learn,
    normalised_hypervolume,
)
from nas_llm.session._latency import check_same_device, run_latency, write_latency
from nas_llm.session._prepare import prepare
from nas_llm.session._pymoo_problem import SessionCallback, SessionProblem
from nas_llm.session._resources import Resources
from nas_llm.session._scores import scores_of_run
from nas_llm.session._workers import with_workers
from nas_llm.session._workloads import run_workloads, write_workloads
from nas_llm.session.front import build_front, score_texts
from nas_llm.session.subnets import (
    ExportedSubnet,
    FinishedSubnet,
    SubnetScores,
    check_form,
    export_subnet,
    finish_subnet,
)
from nas_llm.settings import ExportDefaults
from nas_llm.space import CostConstraints, Evaluation, Genome


class Session:
    """A problem that a script of one's own works on.

    Model, text and scores are loaded once. Whatever evaluates genomes here (a pymoo algorithm, or a loop of one's own)
    goes through the shared cache and into the history of the session's directory, and teaches guided mutation. The
    directory is that of a run: a session on the same one goes on with it, and once :meth:`front` was called, the
    commands of nas-llm work on it.

    Args:
        problem: Name or path of a definition, or a loaded one.
        directory: Run directory; a new or empty one, or one of the same problem. Default: a temporary one.
        overrides: ``"dotted.key=value"`` strings.
        on_event: Called with every event.
        resources: Workers, threads and memory; results do not depend on them.
        shared_cache: Whether evaluations are shared with other runs through the cache folder.

    Raises:
        NasLlmError: If the definition, model, text or directory cannot be used.

    Attributes:
        definition: The problem's definition.
        directory: The run directory.
        prepared: Model, text, scores, space and cost model.
    """

    def __init__(
        self,
        problem: str | Path | LoadedProblem,
        *,
        directory: str | Path | None = None,
        overrides: Sequence[str] = (),
        on_event: EventHandler = ignore,
        resources: Resources | None = None,
        shared_cache: bool = True,
    ) -> None:
        loaded = problem if isinstance(problem, LoadedProblem) else load_problem(problem, overrides=overrides)
        self.definition = loaded.problem
        self._on_event = on_event
        self._started = time.monotonic()
        check_operators(self.definition.search.operators)
        with ExitStack() as stack:
            if directory is None:
                directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="nas-llm-session-"))
            self.directory = Path(directory)
            resources = resources or Resources()
            stack.enter_context(resources.applied())
            self.prepared = stack.enter_context(with_workers(self._prepare(loaded, resources)))
            stack.enter_context(RunLock(self.directory))
            self._scores = scores_of_run(self.directory, self.prepared)
            self._evaluator = self.prepared.evaluator(self.prepared.splits.fitness, metric=self.definition.quality)
            self._subnets = SubnetProblem(
                objectives=self.definition.objective_names,
                space=self.prepared.space,
                cost_model=self.prepared.cost_model,
                constraints=CostConstraints(self.definition.bounds),
                evaluator=self._evaluator,
            )
            self._operators = build_operators(
                self.definition.search.operators,
                space=self.prepared.space,
                scores=self._scores,
                cost_model=self.prepared.cost_model,
                constraints=self.definition.bounds,
                prices=self.definition.prices,
                targets=self.definition.search.target_ratios,
            )
            cache = None
            if shared_cache:
                cache = EvaluationCache(cache_dir() / "evaluations.sqlite", identity=self._evaluator.identity)
                stack.callback(cache.close)
            history = stack.enter_context(History(self.directory / HISTORY_FILE, self.definition.objective_names))
            self._ledger = Ledger(
                history,
                self._subnets,
                cache=cache,
                on_event=on_event,
                should_stop=lambda: False,
                budget=self.definition.search.evaluations,
            )
            self._learn()
            self._stack = stack.pop_all()

    def _prepare(self, loaded: LoadedProblem, resources: Resources) -> Any:
        directory, problem, base_dir = self.directory, loaded.problem, loaded.base_dir
        before = latency = workloads = None
        if is_run(directory):
            check_same_problem(directory, problem)
            before, latency = read_resolved(directory), run_latency(directory, problem)
            workloads = run_workloads(directory, problem)
            plugins = load_plugins(problem, base_dir)
            before.check_plugins(
                {name: use.to_dict() for name, use in plugins.items()}, directory, free=free_plugins(problem)
            )
            check_same_device(directory, problem, latency, workloads)
        elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise RunError(f"{directory} exists and is neither a run nor an empty directory; name another one")
        prepared = prepare(
            problem,
            base_dir=base_dir,
            on_event=self._on_event,
            resources=resources,
            dtype=None if before is None else before.dtype,
            latency=latency,
            workloads=workloads,
        )
        if before is not None:
            before.check(prepared.resolved(), directory, free=free_plugins(problem))
            return prepared
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write run directory {directory}: {error.strerror or error}") from error
        write_latency(directory, prepared)
        write_workloads(directory, prepared.workloads)
        write_problem(directory, problem, prepared.resolved())
        return prepared

    def problem(self) -> SessionProblem:
        """The pymoo problem: one object variable that holds a genome, raw objectives, constraints."""
        return SessionProblem(self._subnets, lambda genomes, generation: self.evaluate(genomes, generation=generation))

    def operators(self) -> dict[str, Any]:
        """pymoo operators, as keyword arguments of any algorithm of pymoo that takes them.

        Returns:
            ``sampling``, ``crossover``, ``mutation``, ``repair`` and ``eliminate_duplicates``.
        """
        made = self._operators
        return {
            "sampling": PymooSampling(made.sampling.draw),
            "crossover": PymooCrossover(made.crossover, probability=made.crossover_probability),
            "mutation": PymooMutation(made.mutation),
            "repair": PymooRepair(made.repair),
            "eliminate_duplicates": DigestDuplicates(),
        }

    def callback(self) -> SessionCallback:
        """A pymoo callback that tells ``on_event`` of each generation: hypervolume and front so far."""
        return SessionCallback(self._tell)

    def evaluate(self, genomes: Sequence[Genome], *, generation: int | None = None) -> list[Evaluation]:
        """Evaluate genomes; those that were evaluated before are looked up.

        Args:
            genomes: Any genomes of the model.
            generation: Who asks, for the history; default: one more than the last.

        Returns:
            One evaluation a genome, in their order, with raw objectives.

        Raises:
            SpaceError: If a genome has masks of another model.
        """
        distinct = {genome.digest(): genome for genome in genomes}
        fresh = [genome for digest, genome in distinct.items() if self._ledger.get(digest) is None]
        for genome in fresh:
            self._subnets.cost_model(genome)  # Refuses masks of another shape before anything runs.
        if fresh:
            rows = self._ledger.rows()
            asking = generation if generation is not None else 1 + max((row.generation for row in rows), default=0)
            self._ledger.evaluate(fresh, first_ordinal=len(rows) + 1, generation=asking)
            self._learn()
        found = [self._ledger.get(genome.digest()) for genome in genomes]
        return [row for row in found if row is not None]

    @property
    def evaluations(self) -> list[Evaluation]:
        """Everything that was evaluated, in order."""
        return self._ledger.rows()

    @property
    def dense(self) -> Mapping[str, float]:
        """Raw objectives of the dense model."""
        quality = self._ledger.dense_quality(measure=True)
        assert quality is not None
        return {**self._subnets.dense_costs, self.definition.quality: quality}

    def front(self, evaluations: Sequence[Evaluation] | None = None) -> Front:
        """The front of some evaluations, scored on text that no candidate has seen.

        It is kept as ``front.json`` with a report, so that ``nas-llm front``, ``export`` and the others work on the
        session's directory.

        Args:
            evaluations: Default: all of the session; those outside of the constraints do not count.

        Raises:
            RunError: If there are none.
        """
        rows = self.evaluations if evaluations is None else list(evaluations)
        allowed = [row for row in rows if (self._subnets.constraint_row(row.genome) <= 0.0).all()]
        if not allowed:
            raise RunError(f"{self.directory} has evaluated no genome within the constraints yet; evaluate some first")
        front = build_front(self.prepared, self._result(allowed), on_event=self._on_event)
        write_atomic(self.directory / FRONT_FILE, front.to_json())
        write_report(self.directory / REPORT_FILE, front, allowed)
        return front

    def finish(self, genomes: Sequence[NamedGenome | Genome]) -> Iterator[FinishedSubnet]:
        """Give genomes their weights by the problem's finishing method, one after the other.

        Args:
            genomes: Genomes, or points of a front.

        Yields:
            A model with its residuals for each; memory for more than one is taken only by who keeps them.

        Raises:
            ConfigError: If a genome is another model's, or the method cannot be used.
        """
        finisher = Finisher(self.prepared, on_event=self._on_event)
        for genome in genomes:
            yield finish_subnet(self.prepared, finisher, genome)

    def export(
        self,
        genome: NamedGenome | Genome,
        directory: str | Path,
        *,
        format: str = ExportDefaults.formats[0],
        dtype: str | None = None,
        max_shard_size: str = ExportDefaults.max_shard_size,
        pad: bool = ExportDefaults.pad,
    ) -> ExportedSubnet:
        """Finish a genome and write it as a model, whole or not at all, measured.

        Args:
            genome: A genome, or a point of a front.
            directory: Where to; must not exist.
            format: ``hf``, ``gguf``, ``decilm``, or one of your own.
            dtype: Type of the weights; default the format's own.
            max_shard_size: Largest weight file, of formats that can split.
            pad: Fill up with zeros what a format has no form for: parts of heads, or layers that differ.

        Raises:
            ConfigError: If there is no such format or type, or it pads no heads.
            ExportError: If the format has no form for it, something is in the way, or the disk does not take it.
        """
        if Path(directory).exists():
            raise ExportError(f"{directory} exists; name another place")
        masks = genome if isinstance(genome, Genome) else genome.genome
        name = genome.digest()[:8] if isinstance(genome, Genome) else genome.id
        options: dict[str, Any] = {"dtype": dtype, "max_shard_size": max_shard_size, "pad": pad}
        # What cannot be written is refused before anything is finished.
        check_form(self.prepared, masks, export_format(format), point=name, **options)
        (subnet,) = self.finish([genome])
        return export_subnet(
            self.prepared,
            subnet,
            Path(directory),
            point=name,
            dense=self._dense_scores,
            format=format,
            **options,
        )

    @cached_property
    def _dense_scores(self) -> SubnetScores:
        """Of the dense model; it may lie on disk, so the evaluator measures it."""
        dense = Genome.dense(self.prepared.dense.architecture, self.prepared.space.layout)
        (fitness,) = self.prepared.evaluator(self.prepared.splits.fitness, metric="perplexity").evaluate([dense])
        (texts,) = score_texts(self.prepared, [dense], "dense model", ignore)
        return SubnetScores(fitness, texts.held_out, texts.kinds)

    def close(self) -> None:
        """Give back workers, files and the lock; a temporary directory goes."""
        self._stack.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _learn(self) -> None:
        learn(self._operators.sensitivities, self._ledger.rows(), self._subnets)

    def _result(self, rows: Sequence[Evaluation]) -> SearchResult:
        names, dense = self.definition.objective_names, self.dense
        values = [[row.objectives[name] for name in names] for row in rows]
        return SearchResult(
            evaluations=tuple(rows),
            front=tuple(rows[index] for index in non_dominated(values)),
            generations=max(row.generation for row in rows),
            hypervolume=normalised_hypervolume(values, names, dense),
            dense=dense,
            interrupted=False,
        )

    def _tell(self, generation: int) -> None:
        rows = self._ledger.rows()
        if not rows:
            return
        result = self._result(rows)
        self._on_event(
            GenerationFinished(
                generation=generation,
                evaluations=len(rows),
                budget=self.definition.search.evaluations,
                hypervolume=result.hypervolume,
                front=tuple(row.objectives for row in result.front),
                seconds=time.monotonic() - self._started,
                dense=result.dense,
            )
        )
