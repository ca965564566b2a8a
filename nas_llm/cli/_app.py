"""The command group: what all commands share, and how errors reach a person."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nas_llm.cli.commands import (
    compare,
    convert,
    dashboard,
    evaluate,
    export,
    families,
    front,
    posttrain,
    problems,
    reconstruct,
    search,
    servable,
    study,
)
from nas_llm.cli.terminal import INTERRUPTED, fail, terminate_as_interrupt
from nas_llm.errors import Interrupted, NasLlmError


class _Group(TyperGroup):
    """Turns errors that were raised on purpose into one line and exit code 2, interrupts into one and 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with terminate_as_interrupt():
                return super().invoke(ctx)
        except NasLlmError as error:
            fail(str(error))
            raise typer.Exit(2) from error
        except (KeyboardInterrupt, Interrupted) as error:
            fail("interrupted")
            raise typer.Exit(INTERRUPTED) from error


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for command in (
    search,
    front,
    reconstruct,
    export,
    posttrain,
    convert,
    evaluate,
    compare,
    problems,
    servable,
    families,
    study,
    dashboard,
):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"nas-llm {importlib.metadata.version('nas-llm')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Find better architectures inside a pretrained language model, without training.

    \b
    A first search, from a problem definition that comes with the package:
      nas-llm search smollm2-135m --run runs/demo
      nas-llm front runs/demo
      nas-llm export runs/demo --point knee
      nas-llm evaluate runs/demo --point knee --text my_text.txt
    """


def main() -> None:
    """Run the command line; the process ends with its exit code."""
    try:
        app(prog_name="nas-llm")
    finally:
        # All is said; while threads and libraries end, a further Ctrl-C ends the process without a word.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
