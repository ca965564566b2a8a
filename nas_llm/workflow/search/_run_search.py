"""A whole search: prepare, search, re-score the front, report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nas_llm.cache import cache_dir
from nas_llm.config import LoadedProblem, load_plugins
from nas_llm.errors import Interrupted, RunError
from nas_llm.events import EventHandler, StageFinished, StageStarted, ignore
from nas_llm.files import write_atomic
from nas_llm.finishing import finish_plan
from nas_llm.front import Front
from nas_llm.report import write_report
from nas_llm.runs import (
    FRONT_FILE,
    HISTORY_FILE,
    REPORT_FILE,
    RunLock,
    check_same_problem,
    free_plugins,
    read_resolved,
    write_problem,
)
from nas_llm.search import EvaluationCache, History, Search, check_algorithm, check_operators
from nas_llm.session import (
    Prepared,
    Resources,
    build_front,
    check_same_device,
    prepare,
    run_latency,
    run_workloads,
    scores_of_run,
    with_workers,
    write_latency,
    write_workloads,
)
from nas_llm.space import CostConstraints
from nas_llm.workflow.search._descent import descend
from nas_llm.workflow.search._start import check_shapes, named_genomes, start_of_run
from nas_llm.workflow.search._summary import RunSummary


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
        on_event: Called with every event.
        should_stop: Polled between candidates; True stops cleanly, everything evaluated is kept.
        shared_cache: Whether evaluations are shared with other runs through the cache folder.
        resources: Workers, threads and memory; results do not depend on them.

    Raises:
        NasLlmError: If the definition, model, text or directory cannot be used.
    """
    started = time.monotonic()
    resources = resources or Resources()
    try:
        with resources.applied():
            front = _search(
                loaded,
                run_dir,
                resume=resume,
                on_event=on_event,
                should_stop=should_stop,
                share=shared_cache,
                resources=resources,
            )
    except Interrupted:
        front = None
    return RunSummary(
        run_dir=run_dir,
        front=front,
        interrupted=front is None,
        evaluations=_evaluated(run_dir),
        seconds=time.monotonic() - started,
        report=None if front is None else run_dir / REPORT_FILE,
    )


def _search(
    loaded: LoadedProblem,
    run_dir: Path,
    *,
    resume: bool,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    share: bool,
    resources: Resources,
) -> Front:
    problem, base_dir = loaded.problem, loaded.base_dir
    # What needs no model is refused before one is loaded, and before anything is written.
    check_algorithm(problem.search, CostConstraints(problem.bounds))
    check_operators(problem.search.operators)
    plugins = load_plugins(problem, base_dir)
    before = latency = workloads = None
    if resume:
        check_same_problem(run_dir, problem)
        before, latency = read_resolved(run_dir), run_latency(run_dir, problem)
        workloads = run_workloads(run_dir, problem)
        before.check_plugins(
            {name: use.to_dict() for name, use in plugins.items()}, run_dir, free=free_plugins(problem)
        )
        check_same_device(run_dir, problem, latency, workloads)
        # A probe: the search takes the lock itself, but only after minutes of preparation.
        with RunLock(run_dir):
            pass
    elif run_dir.exists() and (not run_dir.is_dir() or any(run_dir.iterdir())):
        raise RunError(f"{run_dir} exists and is not an empty directory; resume its run or name another one")
    # Read before minutes of preparation, and again by whoever needs them.
    finish_plan(problem, base_dir=base_dir)
    named = [] if resume else named_genomes(problem, base_dir)
    prepared = prepare(
        problem,
        base_dir=base_dir,
        on_event=on_event,
        should_stop=should_stop,
        resources=resources,
        dtype=None if before is None else before.dtype,
        latency=latency,
        workloads=workloads,
    )
    check_shapes(named, prepared.dense, prepared.space.layout)
    resolved = prepared.resolved()
    if before is not None:
        before.check(resolved, run_dir, free=free_plugins(problem))
    else:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot write run directory {run_dir}: {error.strerror or error}") from error
        write_latency(run_dir, prepared)
        write_workloads(run_dir, prepared.workloads)
    write_problem(run_dir, problem, resolved)
    with with_workers(prepared) as ready:
        return _run(
            ready,
            run_dir,
            base_dir=base_dir,
            resume=resume,
            on_event=on_event,
            should_stop=should_stop,
            share=share,
        )


def _run(
    prepared: Prepared,
    run_dir: Path,
    *,
    base_dir: Path,
    resume: bool,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    share: bool,
) -> Front:
    problem = prepared.problem
    start, scores = start_of_run(run_dir, prepared, base_dir), scores_of_run(run_dir, prepared)
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
    finally:
        if cache is not None:
            cache.close()
    if result.interrupted:
        raise Interrupted
    found = f"{len(result.evaluations)} evaluations, {len(result.front)} points on the front"
    on_event(StageFinished("search", found))
    front = build_front(prepared, result, on_event=on_event)
    write_atomic(run_dir / FRONT_FILE, front.to_json())
    write_report(run_dir / REPORT_FILE, front, result.evaluations)
    return front


def _evaluated(run_dir: Path) -> int:
    """Distinct genomes that a run has evaluated so far, resumed or not."""
    path = run_dir / HISTORY_FILE
    if not path.is_file():
        return 0
    with History(path, read_only=True) as history:
        return len(history)
