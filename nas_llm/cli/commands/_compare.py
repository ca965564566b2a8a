"""``nas-llm compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli.commands._evaluate import split_names
from nas_llm.cli.terminal import (
    Arithmetic,
    ArithmeticOption,
    DeviceOption,
    IncludePathOption,
    JsonOption,
    LimitOption,
    MethodOption,
    ModelOption,
    SamplesOption,
    WindowsOption,
    line,
    output,
    parse_windows,
    quiet_libraries,
)
from nas_llm.errors import ConfigError
from nas_llm.files import check_place, write_atomic
from nas_llm.settings import EvaluationDefaults

_STANDARD_OUTPUT = Path("-")


def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_RUN...",
            help="Two or more directories, hub names, .gguf files, packaged models, or run directories; the first is "
            "what others are compared with.",
        ),
    ],
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="wikitext2, ptb, c4, or a local file or folder of text; default the held-out windows that runs share.",
        ),
    ] = None,
    window: Annotated[int, typer.Option(min=2, help="Tokens of one window of the text.")] = EvaluationDefaults.window,
    windows: WindowsOption = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="POINT",
            help="Points of each run instead of its front: p03, knee, best, smallest, all, ratio=0.8; several with "
            "commas or by repeating.",
        ),
    ] = None,
    ratio: Annotated[
        list[str] | None,
        typer.Option(
            "--ratio",
            metavar="RATIO",
            help="Inheriting ratios to compare fronts at, e.g. 0.9,0.8; default the runs' common target ratios, else "
            "five that all fronts cover.",
        ),
    ] = None,
    method: MethodOption = None,
    samples: SamplesOption = None,
    model: ModelOption = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            metavar="TASK",
            help="Tasks and groups of lm-eval, compared document by document; with commas or by repeating.",
        ),
    ] = None,
    include_path: IncludePathOption = None,
    limit: LimitOption = None,
    device: DeviceOption = EvaluationDefaults.device,
    dtype: ArithmeticOption = Arithmetic[EvaluationDefaults.dtype],
    as_json: JsonOption = None,
) -> None:
    """Say whether models or fronts differ: perplexities on the same windows, ratios to the first, 95 % intervals.

    Runs are compared as fronts: at each inheriting ratio the best point of each run at or below it, finished as the run
    says (--method none keeps the dense model's weights). Where exports or models are among the arguments, a run stands
    for its knee, or for its --point. A ratio is better or worse where its interval does not hold 1.

    \b
    Examples:
      nas-llm compare smollm2-135m runs/demo/exports/p05/hf --text my_text.txt
      nas-llm compare runs/a runs/b --text wikitext2 --windows 64
      nas-llm compare runs/a runs/b --text my_text.txt --ratio 0.9,0.8,0.7 --method none --json fronts.json
      nas-llm compare runs/demo --point p03,p05 --text my_text.txt --windows all
    """
    from nas_llm.cli.terminal import comparison_notes, comparison_table, progress, task_table

    if as_json is not None and as_json != _STANDARD_OUTPUT:
        check_place(as_json)
    count, points, ratios = parse_windows(windows), split_names(point or (), "--point"), parse_ratios(ratio or ())
    if len(models) < 2 and not points:
        raise ConfigError(
            f"there is nothing to compare {models[0]} with; name two or more models or runs, or points of a run with "
            f"--point"
        )
    suite = split_names(tasks or (), "--tasks")
    quiet_libraries()
    import torch

    from nas_llm.workflow import compare_models, measured_with

    with progress() as on_event:
        found = compare_models(
            models,
            text=text,
            window=window,
            windows=count,
            points=points,
            ratios=ratios,
            method=method,
            samples=samples,
            model=model,
            tasks=suite,
            include_path=include_path,
            limit=limit,
            device=device,
            dtype=getattr(torch, dtype.value),
            on_event=on_event,
        )
    document = json.dumps({"versions": measured_with()} | asdict(found), indent=1)
    if as_json == _STANDARD_OUTPUT:
        typer.echo(document)
        return
    console = output()
    console.print(comparison_table(found))
    if suite:
        console.print(task_table(found))
    for note in comparison_notes(found):
        line(console, f"  {note}", style="dim")
    if as_json is not None:
        write_atomic(as_json, document + "\n", parents=True)
        line(console, f"written: {as_json}")


def parse_ratios(texts: Sequence[str]) -> list[float]:
    """``["0.9,0.8"]`` as ``[0.9, 0.8]``.

    Raises:
        ConfigError: If one of them is no number in (0, 1].
    """
    ratios = []
    for name in split_names(texts, "--ratio"):
        try:
            ratios.append(float(name))
        except ValueError:
            ratios.append(0.0)
        if not 0.0 < ratios[-1] <= 1.0:
            raise ConfigError(f"--ratio {name!r} is no number in (0, 1]; write e.g. --ratio 0.9,0.8")
    return ratios
