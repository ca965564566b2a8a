"""``nas-llm servable``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nas_llm.cli import _backend
from nas_llm.cli.terminal import is_run, output

if TYPE_CHECKING:
    from nas_llm.config import Problem
    from nas_llm.export import Servability


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
    output().print(_table(_backend.what_is_servable(_load(problem, settings or []))))


def _load(name: str, overrides: list[str]) -> Problem:
    from nas_llm.config import load_problem

    runs = [directory for directory in (Path(name), Path("runs") / name) if is_run(directory)]
    return load_problem(runs[0] / "problem.toml" if runs else name, overrides=overrides).problem


def _table(answers: Mapping[str, Servability]) -> Table:
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for name in ("format", "genomes", "what is in the way", "what would widen it"):
        table.add_column(name, overflow="fold")
    for name, answer in answers.items():
        hindrances = answer.hindrances
        if not hindrances:
            table.add_row(name, answer.genomes, "", "")
        for index, hindrance in enumerate(hindrances):
            first = (name, answer.genomes) if index == 0 else ("", "")
            weight = "" if hindrance.blocks else "(loads all the same) "
            mend = f"{hindrance.setting} = {hindrance.value}" if hindrance.setting else "-"
            table.add_row(*first, weight + hindrance.reason, mend)
    return table
