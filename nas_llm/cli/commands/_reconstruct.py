"""``nas-llm reconstruct``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from nas_llm.cli.terminal import (
    FinishMemoryOption,
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MethodOption,
    MinRatioOption,
    ModelOption,
    PointOption,
    RunArgument,
    SamplesOption,
    line,
    output,
    parse_count,
    quiet_libraries,
)
from nas_llm.errors import ConfigError


def reconstruct(
    run: RunArgument,
    point: PointOption = None,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    min_ratio: MinRatioOption = None,
    max_ratio: MaxRatioOption = None,
    method: MethodOption = None,
    samples: SamplesOption = None,
    damping: Annotated[
        list[str] | None,
        typer.Option(
            "--damping",
            metavar="X",
            help="Ridge, as a fraction of the mean diagonal; of several (with commas or by repeating), each projection "
            "takes the best on held-out windows.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="NAME", help="What sequential aims at: residual, sublayer, or a number from 0 to 1."
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            metavar="X",
            help="Share of each update that sequential makes, above 0 and at most 1; of several, each point takes the "
            "best on fitness windows.",
        ),
    ] = None,
    blend: Annotated[
        list[str] | None,
        typer.Option(
            "--blend",
            metavar="X",
            help="Share of what sequential made that ends in the weights, above 0 and at most 1; of several, likewise.",
        ),
    ] = None,
    memory: FinishMemoryOption = None,
    model: ModelOption = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show the residuals of every layer, also for several points.")
    ] = False,
) -> None:
    """Finish points of a front by a method and measure what it brings, without exporting them.

    Options that are left away are those of the problem. Points are chosen as by nas-llm export.

    \b
    Examples:
      nas-llm reconstruct runs/demo --point knee
      nas-llm reconstruct runs/demo --point all --method sequential --samples 128
      nas-llm reconstruct runs/demo --point p03 --method sequential --damping 0.001,0.01,0.1 --target sublayer
      nas-llm reconstruct runs/demo --point p03 --method admm --layers
    """
    from nas_llm.cli.terminal import progress, reconstruction_table, residual_table
    from nas_llm.runs import find_run, open_run

    most_macs, most_params = parse_count(max_macs, "--max-macs"), parse_count(max_params, "--max-params")
    dampings = parse_numbers(damping or (), "--damping", "0.01 or 0.001,0.01,0.1")
    steps = parse_numbers(step or (), "--step", "0.5 or 0.35,0.5,0.7")
    blends = parse_numbers(blend or (), "--blend", "0.7 or 0.5,0.7,0.9")
    opened = open_run(find_run(run), model=model)
    points = opened.front.select(
        point or (), max_macs=most_macs, max_params=most_params, min_ratio=min_ratio, max_ratio=max_ratio
    )
    quiet_libraries()
    from nas_llm.workflow import reconstruct_points

    with progress() as on_event:
        records = reconstruct_points(
            opened,
            points,
            method=method,
            samples=samples,
            damping=dampings,
            target=parse_target(target),
            step=steps,
            blend=blends,
            memory_gb=memory,
            on_event=on_event,
        )
    console = output()
    console.print(reconstruction_table(opened.front, records))
    for record in records:
        if record.residuals and (layers or len(records) == 1):
            console.print(residual_table(record))
        line(console, f"residuals: {record.path}")


def parse_numbers(texts: Sequence[str], option: str, example: str) -> float | list[float] | None:
    """``["0.01"]`` as a number, ``["0.001,0.01", "0.1"]`` as three, nothing as None.

    Args:
        texts: What was given.
        option: How.
        example: How to do it.

    Raises:
        ConfigError: If an entry is no number.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    numbers = []
    for name in names:
        try:
            numbers.append(float(name))
        except ValueError:
            raise ConfigError(f"{option} {','.join(texts)!r} is no number; write e.g. {example}") from None
    return numbers[0] if len(numbers) == 1 else numbers or None


def parse_target(text: str | None) -> str | float | None:
    """A number where it is one, else the name as it is."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text
