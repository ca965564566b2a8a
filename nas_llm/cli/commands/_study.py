"""``nas-llm study``."""

from __future__ import annotations

import shlex
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
    progress_output,
    quiet_libraries,
    quiet_optuna,
)
from nas_llm.errors import StudyError
from nas_llm.settings import StudyDefaults

if TYPE_CHECKING:
    from nas_llm.studies import StudySummary

_FOLDER = "studies"


def study(
    study: Annotated[str | None, typer.Argument(help="A packaged study or a TOML file; without it, a list.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URL", help="A journal file, sqlite:///FILE, postgresql://... or grpc://HOST:PORT."
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(metavar="N", help="Trials in all; default from the definition.")] = None,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes on this machine.")] = StudyDefaults.workers,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="After this time no further trial begins.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue or join the study in this storage.")] = False,
    apply: Annotated[
        Path | None, typer.Option("--apply", metavar="FILE", help="Write the best setting as a problem definition.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --apply overwrite a file.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the study; may be repeated."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="CPU threads of each process.")] = None,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="Memory for blocks and hidden states of each process.")
    ] = None,
) -> None:
    """Tune the evolution with Optuna: each trial is a search with suggested settings under a fixed budget.

    \b
    Examples:
      nas-llm study tiny-llama
      nas-llm study smollm2-135m --trials 30 --workers 2
      nas-llm study mine.toml --storage postgresql://user@host/studies --resume    # on every machine
      nas-llm study tiny-llama --resume --apply tuned.toml
      nas-llm dashboard runs/studies/tiny-llama

    Trial 0 is the paper's setting and trial 1 our default. Ctrl-C stops; --resume goes on, and also joins a study that
    other processes or machines work on.
    """
    quiet_libraries()
    from nas_llm.cli.terminal import progress
    from nas_llm.runs import RUNS_FOLDER
    from nas_llm.studies.definition import list_studies, load_study

    if study is None:
        for entry in list_studies():
            line(output(), f"{entry.name:<16} {entry.description}")
        return
    overrides = list(settings or ()) + ([] if trials is None else [f"trials={trials}"])
    loaded = load_study(study, overrides=overrides)
    if apply is not None and apply.exists() and not force:
        raise StudyError(f"{apply} exists; --force overwrites it")
    place = storage or str(RUNS_FOLDER / _FOLDER / loaded.definition.name / "study.journal")

    def stopping() -> None:
        line(
            progress_output(), "stopping; the present trial will be run again by --resume; Ctrl-C again aborts at once"
        )

    from nas_llm.studies import require_optuna

    require_optuna("nas-llm study")
    quiet_optuna()
    from nas_llm.session import Resources
    from nas_llm.studies import run_study

    keep_memory(loaded.problem.model.device)
    with progress(progress_output()) as on_event, StopOnInterrupt(stopping) as interrupt:
        summary = run_study(
            loaded,
            storage=place,
            resume=resume,
            workers=workers,
            timeout=timeout,
            on_event=on_event,
            should_stop=interrupt.asked,
            resources=Resources(threads=threads, memory_gb=memory),
        )
    if summary.interrupted and not summary.trials:
        line(output(), "interrupted before a trial was done; --resume goes on")
        raise typer.Exit(INTERRUPTED)
    _show(summary)
    if apply is not None:
        from nas_llm.studies import write_best

        write_best(summary, loaded, apply)
        line(output(), f"the best setting: {apply}; search it with: nas-llm search {shlex.quote(str(apply))}")
    if summary.exhausted:
        line(output(), f"all combinations of the parameters are done: {len(summary.trials)} trials, no more to come")
    elif len(summary.trials) < summary.total:
        line(output(), f"{len(summary.trials)} of {summary.total} trials are done; --resume goes on")
    line(output(), f"look at it: nas-llm dashboard {shlex.quote(place if storage else str(Path(place).parent))}")
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)


def _show(summary: StudySummary) -> None:
    from nas_llm.cli.terminal import study_table

    output().print(study_table(summary))
    line(output(), f"{len(summary.trials)} trials, {display.duration(summary.seconds)}, storage {summary.storage}")
