"""``nas-llm problems``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from nas_llm.cli.terminal import fail, line, output, quiet_libraries
from nas_llm.errors import ConfigError, NasLlmError

if TYPE_CHECKING:
    from nas_llm.config import LoadedProblem, PackagedProblem


def problems(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Show this problem (or TOML file) instead of the list."),
    ] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default written out.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="What all or these problems ask for: sizes, window, memory, time.")
    ] = False,
) -> None:
    """List the packaged problem definitions, show one, or check them without weights and network.

    \b
    Examples:
      nas-llm problems
      nas-llm problems smollm2-135m > mine.toml
      nas-llm problems mine.toml --resolved
      nas-llm problems --check
      nas-llm problems --check mine.toml paper/llama-7b-r80
    """
    from nas_llm.config import dump_problem, list_problems, load_problem

    if check and resolved:
        raise ConfigError("--check measures and --resolved shows; give one of them")
    if check:
        _check(names or [entry.name for entry in list_problems()])
        return
    if names:
        if len(names) > 1:
            raise ConfigError(f"one problem is shown at a time, got {', '.join(names)}; name one, or add --check")
        loaded = load_problem(names[0])
        text = dump_problem(loaded.problem) if resolved else loaded.path.read_text(encoding="utf-8")
        typer.echo(text, nl=False)
        return

    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
    for name, description in listed(list_problems()):
        table.add_row(name, description)
    output().print(table)


def listed(entries: Iterable[PackagedProblem]) -> Iterator[tuple[str, str]]:
    """Names and descriptions as they are listed: neighbours that share a description share a line.

    ``a-r50`` and ``a-r60`` become ``a-{r50,r60}``, which shells take apart again.
    """
    for (stem, description), group in groupby(
        entries, key=lambda entry: (entry.name.rpartition("-")[0], entry.description)
    ):
        found = [entry.name for entry in group]
        ends = ",".join(name.rpartition("-")[2] for name in found)
        yield (found[0] if len(found) == 1 else f"{stem}-{{{ends}}}"), description


def _check(names: Sequence[str]) -> None:
    from nas_llm.config import load_problem

    loaded: dict[str, LoadedProblem] = {}
    wrong: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            loaded[name] = load_problem(name)
        except NasLlmError as error:
            wrong[name] = str(error)
    checks = {}
    if loaded:
        quiet_libraries()
        from nas_llm.workflow import check_problem

        for name, problem in loaded.items():
            try:
                checks[name] = check_problem(problem)
            except NasLlmError as error:
                wrong[name] = str(error)
    if checks:
        from nas_llm.cli.terminal import check_notes, check_table

        console = output()
        console.print(check_table(checks))
        for note in check_notes(checks.values()):
            line(console, f"  {note}", style="dim")
    for name, message in wrong.items():
        said = message.startswith(name) or f'"{name}"' in message
        fail(message if said else f"{name}: {message}")
    if wrong:
        raise typer.Exit(2)
