"""``nas-llm servable``."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_llm.cli.terminal import output, quiet_libraries


def servable(
    problem: Annotated[
        str, typer.Argument(metavar="PROBLEM|RUN", help="A packaged problem, a TOML file, or a run directory.")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the problem; may be repeated."),
    ] = None,
) -> None:
    """Show which formats every genome of a problem can be exported to, before anything is searched.

    \b
    Examples:
      nas-llm servable smollm2-135m
      nas-llm servable problems/mine.toml --set 'space.attn_ratio=[1.0, 1.0]'
      nas-llm servable runs/demo
    """
    from nas_llm.cli.terminal import servable_table
    from nas_llm.config import load_problem
    from nas_llm.runs import PROBLEM_FILE, named_run

    run = named_run(problem)
    source = problem if run is None else run / PROBLEM_FILE
    loaded = load_problem(source, overrides=settings or []).problem
    quiet_libraries()
    from nas_llm.workflow import what_is_servable

    output().print(servable_table(what_is_servable(loaded)))
