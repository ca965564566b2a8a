"""A whole search: prepare, search, re-score the front, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from nas_llm.cache import cache_dir
from nas_llm.config import LoadedProblem, Problem
from nas_llm.errors import Interrupted, RunError, SpaceError, first_line
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.models import DenseModel
from nas_llm.report import write_report
from nas_llm.search import (
    Evaluation,
    EvaluationCache,
    History,
    RunLock,
    Search,
    SearchResult,
    knee,
    search_scale,
    thin_front,
)
from nas_llm.space import FloatArray, Genome, UnitScores
from nas_llm.workflow._descent import descend
from nas_llm.workflow._genomes import read_genomes
from nas_llm.workflow._prepare import Prepared, prepare, with_workers
from nas_llm.workflow._resources import Resources
from nas_llm.workflow._run_files import (
    FRONT_FILE,
    HISTORY_FILE,
    REPORT_FILE,
    SCORES_FILE,
    START_FILE,
    check_same_device,
    check_same_inputs,
    check_same_problem,
    resolved_dtype,
    run_latency,
    write_atomic,
    write_latency,
    write_problem,
)
from nas_llm.workflow._types import Front, FrontPoint, RunSummary


def run_search(
    loaded: LoadedProblem,
    *,
    run_dir: Path,
    resume: bool = False,
    on_event: EventHandler = ignore,
    should_stop: Callable[[], bool] = lambda: False,
    shared_cache: bool = True,
    resources: Resources | None = None,
) -> RunSummary:
    """Search a problem and leave everything in a run directory.

    Args:
        loaded: The problem, from :func:`nas_llm.config.load_problem`.
        run_dir: Where to; must be new or empty unless ``resume``.
        resume: Continue the search that the directory holds, to the same result as an unbroken one.
        on_event: Told what happens.
        should_stop: Polled between candidates; True stops cleanly, everything evaluated is kept.
        shared_cache: Whether evaluations are shared with other runs through the cache folder.
        resources: Workers, threads and memory; results do not depend on them.

    Raises:
        NasLlmError: If the definition, model, text or directory cannot be used.
    """
    started = time.monotonic()
    problem = loaded.problem
    dtype = latency = None
    if resume:
        check_same_problem(run_dir, problem)
        dtype, latency = resolved_dtype(run_dir), run_latency(run_dir, problem)
        if latency is not None:
            check_same_device(run_dir, problem, latency)
        # A probe: the search takes the lock itself, but only after minutes of preparation.
        with RunLock(run_dir):
            pass
    elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunError(f"{run_dir} exists and is not an empty directory; resume its run or name another one")
    # Read before minutes of preparation, and again by whoever needs them.
    named = [] if resume else _named_genomes(problem, loaded.base_dir)
    try:
        prepared = prepare(
            problem,
            base_dir=loaded.base_dir,
            on_event=on_event,
            should_stop=should_stop,
            resources=resources,
            dtype=dtype,
            latency=latency,
        )
    except Interrupted:
        return _summary(run_dir, None, True, _evaluated(run_dir), started, None)
    _check_shapes(named, prepared.dense)
    if resume:
        check_same_inputs(run_dir, prepared)
    else:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write run directory {run_dir}: {error.strerror or error}") from error
        write_latency(run_dir, prepared)
    write_problem(run_dir, prepared, base_dir=loaded.base_dir)
    with with_workers(prepared) as ready:
        return _run(
            ready,
            run_dir,
            started,
            base_dir=loaded.base_dir,
            resume=resume,
            on_event=on_event,
            should_stop=should_stop,
            share=shared_cache,
        )


def _run(
    prepared: Prepared,
    run_dir: Path,
    started: float,
    *,
    base_dir: Path,
    resume: bool,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    share: bool,
) -> RunSummary:
    problem = prepared.problem
    start, scores = _start(run_dir, prepared, base_dir), _scores(run_dir, prepared)
    evaluator = prepared.evaluator(prepared.splits.fitness, metric=problem.quality)
    cache = EvaluationCache(cache_dir() / "evaluations.sqlite", identity=evaluator.identity) if share else None
    try:
        start += descend(
            prepared,
            run_dir,
            scores=scores,
            evaluator=evaluator,
            cache=cache,
            on_event=on_event,
            should_stop=should_stop,
        )
        on_event(StageStarted("search", problem.search.algorithm, problem.search.evaluations))
        result = Search(
            problem=problem,
            space=prepared.space,
            cost_model=prepared.cost_model,
            scores=scores,
            start=start,
            evaluator=evaluator,
            directory=run_dir,
            cache=cache,
            on_event=on_event,
            should_stop=should_stop,
        ).run(resume=resume)
    except Interrupted:
        return _summary(run_dir, None, True, _evaluated(run_dir), started, None)
    finally:
        if cache is not None:
            cache.close()
    count = len(result.evaluations)
    if result.interrupted:
        return _summary(run_dir, None, True, count, started, None)
    on_event(StageFinished("search", f"{count} evaluations, {len(result.front)} points on the front"))
    front = build_front(prepared, result, on_event=on_event)
    write_atomic(run_dir / FRONT_FILE, front.to_json())
    report = run_dir / REPORT_FILE
    write_report(report, front, result.evaluations)
    return _summary(run_dir, front, False, count, started, report)


def _scores(run_dir: Path, prepared: Prepared) -> UnitScores:
    """The scores that this run began with: computed again elsewhere, they might differ in the last digit."""
    path = run_dir / "checkpoint" / SCORES_FILE
    try:
        if not path.is_file():
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".partial")
            prepared.calibration.scores.save(partial)
            partial.replace(path)
        return UnitScores.load(path)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(f"cannot write or read {path}: {first_line(error)}; start a new run") from error


def _start(run_dir: Path, prepared: Prepared, base_dir: Path) -> list[Genome]:
    """Genomes that the first population takes in, as they were when the run began."""
    if not prepared.problem.search.start_from:
        return []
    path = run_dir / "checkpoint" / START_FILE
    if not path.is_file():
        found = _named_genomes(prepared.problem, base_dir)
        path.parent.mkdir(exist_ok=True)
        write_atomic(path, json.dumps([genome.to_bytes().hex() for genome in found]) + "\n")
    try:
        return [Genome.from_bytes(bytes.fromhex(text)) for text in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, SpaceError) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}; start a new run") from error


def _named_genomes(problem: Problem, base_dir: Path) -> list[Genome]:
    sources = [base_dir / Path(source).expanduser() for source in problem.search.start_from]
    return list(dict.fromkeys(genome for source in sources for genome in read_genomes(source)))


def _check_shapes(genomes: Sequence[Genome], dense: DenseModel) -> None:
    wanted = Genome.dense(dense.architecture)
    for genome in genomes:
        if genome.attn_mask.shape != wanted.attn_mask.shape or genome.mlp_mask.shape != wanted.mlp_mask.shape:
            raise RunError(
                f"search.start_from names subnets of another model: {_shape(genome)}, but {dense.source} has "
                f"{_shape(wanted)}"
            )


def _shape(genome: Genome) -> str:
    return (
        f"{genome.num_layers} layers of {genome.attn_mask.shape[1]} KV groups and {genome.mlp_mask.shape[1]} channels"
    )


def build_front(prepared: Prepared, result: SearchResult, *, on_event: EventHandler = ignore) -> Front:
    """Thin the front of a search and score its points, and the dense model, on windows the search never saw.

    Args:
        prepared: The problem that was searched.
        result: What the search found.
        on_event: Told what happens.
    """
    problem, names = prepared.problem, prepared.problem.objectives
    chosen = thin_front(_scaled(result.front, names, result.dense), problem.front.size)
    kept = [result.front[index] for index in chosen]
    thinned = f" of the front's {len(result.front)}" if len(kept) < len(result.front) else ""
    subject = f"the dense model and {len(kept)}{thinned} points"
    # The cheapest last, as a person reads a front: from the dense end on.
    kept.sort(key=lambda evaluation: (-evaluation.cost.macs_per_token, -evaluation.cost.block_params))
    dense_genome = Genome.dense(prepared.dense.architecture)
    genomes = [dense_genome, *(evaluation.genome for evaluation in kept)]
    held_out = _score(prepared, genomes, "held_out", subject, on_event)
    fitness = (
        [result.dense["perplexity"], *(evaluation.objectives["perplexity"] for evaluation in kept)]
        if problem.quality == "perplexity"
        else _score(prepared, genomes, "fitness", subject, on_event)
    )
    middle = knee(_scaled(kept, names, result.dense))
    points = tuple(
        _point(f"p{index + 1:02d}", evaluation, fitness[index + 1], held_out[index + 1], index == middle)
        for index, evaluation in enumerate(kept)
    )
    splits = prepared.splits
    return Front(
        problem=problem.name,
        seed=problem.seed,
        model={"source": prepared.dense.source, "revision": prepared.dense.revision},
        data={w.name: w.describe() for w in (splits.calibration, splits.fitness, splits.held_out)},
        objectives=names,
        weights=problem.fitness.weights,
        hypervolume=result.hypervolume,
        dense=FrontPoint(
            id="dense",
            genome=dense_genome,
            objectives=dict(result.dense),
            cost=prepared.cost_model.dense,
            fitness_perplexity=fitness[0],
            held_out_perplexity=held_out[0],
            generation=0,
        ),
        points=points,
    )


def _score(
    prepared: Prepared, genomes: Sequence[Genome], split: str, subject: str, on_event: EventHandler
) -> list[float]:
    windows = getattr(prepared.splits, split)
    label = split.replace("_", "-")
    on_event(StageStarted("front", f"{subject} on {windows.num_tokens:,} {label} tokens", len(genomes)))
    done = 0

    def on_result(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        nonlocal done
        done += 1
        on_event(StageAdvanced("front", done))

    values = prepared.evaluator(windows, metric="perplexity").evaluate(genomes, on_result=on_result)
    on_event(StageFinished("front", f"{label} perplexity"))
    return values


def _scaled(evaluations: Sequence[Evaluation], names: Sequence[str], dense: Mapping[str, float]) -> FloatArray:
    """Objectives as the search saw them: perplexity on a log scale, so that distances mean the same at both ends."""
    return np.stack([search_scale(evaluation.objectives, names, dense) for evaluation in evaluations])


def _point(point_id: str, evaluation: Evaluation, fitness: float, held_out: float, is_knee: bool) -> FrontPoint:
    objectives: Mapping[str, float] = evaluation.objectives
    return FrontPoint(
        id=point_id,
        genome=evaluation.genome,
        objectives=dict(objectives),
        cost=evaluation.cost,
        fitness_perplexity=fitness,
        held_out_perplexity=held_out,
        generation=evaluation.generation,
        knee=is_knee,
    )


def _evaluated(run_dir: Path) -> int:
    """How many evaluations a run has made before."""
    path = run_dir / HISTORY_FILE
    if not path.is_file():
        return 0
    with History(path, read_only=True) as history:
        return len(history)


def _summary(
    run_dir: Path, front: Front | None, interrupted: bool, evaluations: int, started: float, report: Path | None
) -> RunSummary:
    return RunSummary(
        run_dir=run_dir,
        front=front,
        interrupted=interrupted,
        evaluations=evaluations,
        seconds=time.monotonic() - started,
        report=report,
    )
