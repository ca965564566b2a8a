"""``nas-llm problems``."""

from __future__ import annotations

from typing import Annotated

import typer

from nas_llm.cli.terminal import output


def problems(
    name: Annotated[str | None, typer.Argument(help="Show this problem (or TOML file) instead of the list.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
) -> None:
    """List the packaged problem definitions, or show one.

    \b
    Examples:
      nas-llm problems
      nas-llm problems smollm2-135m > mine.toml
      nas-llm problems mine.toml --resolved
    """
    from nas_llm.config import dump_problem, list_problems, load_problem

    if name is not None:
        loaded = load_problem(name)
        text = dump_problem(loaded.problem) if resolved else loaded.path.read_text(encoding="utf-8")
        typer.echo(text, nl=False)
        return

    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
    for entry in list_problems():
        table.add_row(entry.name, entry.description)
    output().print(table)
