"""``nas-llm front``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli.terminal import (
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MinRatioOption,
    PointOption,
    RunArgument,
    line,
    output,
    parse_count,
)


def front(
    run: RunArgument,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all points as CSV.")] = None,
    point: PointOption = None,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    min_ratio: MinRatioOption = None,
    max_ratio: MaxRatioOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing CSV file.")] = False,
) -> None:
    """Show the points of a front with their held-out scores.

    \b
    Examples:
      nas-llm front runs/demo
      nas-llm front runs/demo --max-macs 140M
      nas-llm front runs/demo --point knee --point p03
      nas-llm front runs/demo --csv front.csv
    """
    from nas_llm.cli.terminal import belief_table, front_table
    from nas_llm.runs import find_run, open_front

    limits = {"max_macs": parse_count(max_macs, "--max-macs"), "max_params": parse_count(max_params, "--max-params")}
    found = open_front(find_run(run))
    points = found.select(point or ["all"], **limits, min_ratio=min_ratio, max_ratio=max_ratio)
    console = output()
    console.print(front_table(found, points))
    believed = belief_table(found, points)
    if believed is not None:
        console.print(believed)
    for warning in found.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False)
    if csv is not None:
        found.to_csv(csv, force=force)
        line(console, f"written: {csv}")
