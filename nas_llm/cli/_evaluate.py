"""``nas-llm evaluate``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli import _backend
from nas_llm.cli._console import output
from nas_llm.errors import DataError


def evaluate(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Directories, hub names, .gguf files or packaged models.")
    ],
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="Text to measure on; default: a packaged model's own sample."),
    ] = None,
    window: Annotated[int, typer.Option(min=2, help="Tokens of one window.")] = 1024,
    windows: Annotated[int | None, typer.Option(min=1, help="Windows to score; default all of the text.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Dense model that ratios are taken against.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure perplexity, MACs and parameters of models.

    Perplexity is exp(mean token NLL) over non-overlapping windows of the text, in float32, the same for all.

    \b
    Examples:
      nas-llm evaluate runs/demo/exports/p05/hf --base smollm2-135m
      nas-llm evaluate smollm2-135m exports/p05/hf --text my_text.txt --windows 64
      nas-llm evaluate exports/*/hf --text my_text.txt --json > scores.json
    """
    from nas_llm.cli._progress import progress
    from nas_llm.cli._tables import model_table

    if text is not None and not text.is_file():
        raise DataError(f"text file {text} does not exist")
    with progress() as on_event:
        rows = _backend.evaluate_models(models, text=text, window=window, windows=windows, base=base, on_event=on_event)
    if as_json:
        typer.echo(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        output().print(model_table(rows))
