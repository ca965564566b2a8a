"""``nas-llm search``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_llm import display
from nas_llm.cli.terminal import (
    INTERRUPTED,
    StopOnInterrupt,
    keep_memory,
    line,
    output,
    prepare_run_directory,
    progress_output,
    quiet_libraries,
    quiet_optuna,
)
from nas_llm.errors import ConfigError
from nas_llm.settings import ResourcesDefaults

if TYPE_CHECKING:
    from nas_llm.config import LoadedProblem
    from nas_llm.events import EventHandler
    from nas_llm.studies.mirror import SearchMirror
    from nas_llm.workflow import RunSummary


def search(
    problem: Annotated[str, typer.Argument(help="A packaged problem (see nas-llm problems) or a TOML file.")],
    run: Annotated[
        Path | None, typer.Option("--run", metavar="DIR", help="Run directory; default runs/<problem name>.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in this directory.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the problem; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same as --set seed=N.")] = None,
    evaluations: Annotated[int | None, typer.Option(help="Same as --set search.evaluations=N.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Start anew where a run lies; it is moved to DIR.old-1.")
    ] = False,
    start_from: Annotated[
        list[Path] | None,
        typer.Option("--start-from", metavar="DIR", help="A run or exports whose subnets the search starts from."),
    ] = None,
    workers: Annotated[
        int, typer.Option(metavar="N", help="Price candidates in N Ray workers (one a GPU); 0 = in this process.")
    ] = ResourcesDefaults.workers,
    ray: Annotated[
        str | None, typer.Option("--ray", metavar="ADDRESS", help="Use the workers of a running Ray cluster.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", metavar="URL", help="Mirror into this Optuna storage; default DIR/study.journal."),
    ] = None,
    no_study: Annotated[bool, typer.Option("--no-study", help="Do not mirror the search into a study.")] = False,
    threads: Annotated[
        int | None, typer.Option(metavar="N", help="CPU threads of this process or each worker.")
    ] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Memory for blocks and hidden states; see docs/evaluator.md.")
    ] = None,
) -> None:
    """Search a problem for subnets; re-score and report its front.

    \b
    Examples:
      nas-llm search smollm2-135m
      nas-llm search problems/mine.toml --run runs/mine --seed 1
      nas-llm search smollm2-135m --set constraints.max_params=110_000_000 --evaluations 400
      nas-llm search smollm2-135m --run runs/demo --resume
      nas-llm search smollm2-135m --run runs/more --start-from runs/demo --seed 1
      nas-llm search smollm2-135m --study postgresql://user@host/studies

    Ctrl-C stops after saving; the same command with --resume goes on to the same result as an unbroken run.
    """
    from nas_llm.cli.terminal import progress
    from nas_llm.config import load_problem
    from nas_llm.runs import default_run_directory, is_run

    overrides = list(settings or ())
    if start_from:
        # Absolute, because paths of a problem are relative to its file.
        overrides.append(f"search.start_from={json.dumps([str(path.resolve()) for path in start_from])}")
    overrides += [] if seed is None else [f"seed={seed}"]
    overrides += [] if evaluations is None else [f"search.evaluations={evaluations}"]
    if resume and force:
        raise ConfigError("--resume continues a run and --force starts anew; give one of them")
    if study is not None and no_study:
        raise ConfigError("--study mirrors the search and --no-study does not; give one of them")
    loaded = load_problem(problem, overrides=overrides)
    directory = run or default_run_directory(loaded.problem.name)
    moved = prepare_run_directory(directory, resume=resume, force=force)

    console = progress_output()
    if moved is not None:
        line(console, f"the earlier run was moved to {moved}")
    line(console, f"{loaded.problem.name}: {loaded.problem.search.evaluations} evaluations, run directory {directory}")

    def stopping() -> None:
        line(console, "stopping after the present step; Ctrl-C again aborts at once")

    quiet_libraries()
    from nas_llm.workflow import Resources, run_search

    keep_memory(loaded.problem.model.device)
    with progress(console) as on_event, StopOnInterrupt(stopping) as interrupt:
        mirror = None if no_study else _mirror(loaded, directory, study, on_event)
        summary = run_search(
            loaded,
            run_dir=directory,
            resume=resume,
            on_event=mirror or on_event,
            should_stop=interrupt.asked,
            resources=Resources(workers=workers, ray_address=ray, threads=threads, memory_gb=memory),
        )
        if mirror is not None:
            mirror.finish(summary)
    if summary.interrupted and not is_run(directory):
        line(output(), "interrupted before the search began; nothing was written, start it again")
        raise typer.Exit(INTERRUPTED)
    _show(summary)
    if summary.interrupted:
        line(output(), f"interrupted; continue with: {_resume_command(problem, directory, overrides)}")
        raise typer.Exit(INTERRUPTED)


def _mirror(loaded: LoadedProblem, directory: Path, study: str | None, on_event: EventHandler) -> SearchMirror | None:
    """What shows the search in a study; None where Optuna is not installed and no study was asked for."""
    from nas_llm.studies import has_optuna, require_optuna

    if study is not None:
        require_optuna("--study")
    elif not has_optuna():
        return None
    quiet_optuna()
    from nas_llm.studies.mirror import SearchMirror

    return SearchMirror(loaded.problem, directory, url=study, on_event=on_event)


def _show(summary: RunSummary) -> None:
    from nas_llm.cli.terminal import belief_table, front_table

    console = output()
    if summary.front is not None:
        console.print(front_table(summary.front, summary.front.points))
        believed = belief_table(summary.front, summary.front.points)
        if believed is not None:
            console.print(believed)
    line(console, f"{summary.evaluations} evaluations, {display.duration(summary.seconds)}")
    line(console, f"run directory: {summary.run_dir}")
    if summary.report is not None:
        line(console, f"report: {summary.report}")
    if summary.front is not None and not summary.interrupted:
        line(console, f"next: nas-llm export {shlex.quote(str(summary.run_dir))} --point knee")


def _resume_command(problem: str, directory: Path, overrides: Sequence[str]) -> str:
    words = ["nas-llm", "search", problem, "--run", str(directory), "--resume"]
    for override in overrides:
        words += ["--set", override]
    return shlex.join(words)
