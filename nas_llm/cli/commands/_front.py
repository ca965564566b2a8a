"""``nas-llm front``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_llm.cli.terminal import (
    MaxMacsOption,
    MaxParamsOption,
    MaxRatioOption,
    MinRatioOption,
    PointOption,
    RunArgument,
    WorkloadOption,
    line,
    output,
    parse_count,
    parse_size,
    quiet_libraries,
)
from nas_llm.errors import ConfigError

if TYPE_CHECKING:
    from nas_llm.workloads import WorkloadPredictor


def front(
    run: RunArgument,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write all points as CSV.")] = None,
    point: PointOption = None,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    min_ratio: MinRatioOption = None,
    max_ratio: MaxRatioOption = None,
    workload: WorkloadOption = None,
    prompt: Annotated[
        int | None, typer.Option("--prompt", min=1, metavar="N", help="Tokens of the prompt of another workload.")
    ] = None,
    new_tokens: Annotated[
        int | None, typer.Option("--new-tokens", min=1, metavar="N", help="Tokens that it decodes.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, metavar="N", help="Its sequences side by side; default 1.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", metavar="X", help="Most predicted seconds of the workload.")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", metavar="SIZE", help="Most predicted memory of it, e.g. 2GB.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing CSV file.")] = False,
) -> None:
    """Show the points of a front with their held-out scores.

    With a workload (--workload, or --prompt and --new-tokens), also what each point takes for it, predicted. Times that
    the run does not have are measured first, and kept.

    \b
    Examples:
      nas-llm front runs/demo
      nas-llm front runs/demo --max-macs 140M
      nas-llm front runs/demo --point knee --point p03
      nas-llm front runs/demo --workload chat --max-memory 2GB --max-seconds 1.5
      nas-llm front runs/demo --prompt 2048 --new-tokens 256 --batch 4 --max-memory 2GB
      nas-llm front runs/demo --csv front.csv
    """
    from nas_llm.cli.terminal import belief_table, front_table
    from nas_llm.front import workload_limits
    from nas_llm.runs import find_run, open_front

    limits = {"max_macs": parse_count(max_macs, "--max-macs"), "max_params": parse_count(max_params, "--max-params")}
    bounds = {"max_seconds": _seconds(max_seconds), "max_memory": parse_size(max_memory, "--max-memory")}
    directory = find_run(run)
    found = open_front(directory)
    predictor = None
    if any(given is not None for given in (workload, prompt, new_tokens, batch, *bounds.values())):
        predictor = _predictor(directory, workload, prompt=prompt, new_tokens=new_tokens, batch=batch)
    points = found.select(
        point or ["all"],
        **limits,
        min_ratio=min_ratio,
        max_ratio=max_ratio,
        limits=() if predictor is None else workload_limits(predictor, **bounds),
    )
    console = output()
    console.print(front_table(found, points, predictor))
    believed = belief_table(found, points)
    if believed is not None:
        console.print(believed)
    for warning in found.warnings:
        console.print(f"note: {warning}", markup=False, highlight=False)
    if csv is not None:
        found.to_csv(csv, force=force)
        line(console, f"written: {csv}")


def _seconds(given: float | None) -> float | None:
    if given is not None and not 0.0 < given < float("inf"):
        raise ConfigError(f"--max-seconds {given:g} is no time; write a number above 0, e.g. 1.5")
    return given


def _predictor(
    directory: Path, workload: str | None, *, prompt: int | None, new_tokens: int | None, batch: int | None
) -> WorkloadPredictor:
    quiet_libraries()
    from nas_llm.cli.terminal import progress
    from nas_llm.workflow import run_workload

    with progress() as on_event:
        return run_workload(directory, workload, prompt=prompt, new_tokens=new_tokens, batch=batch, on_event=on_event)
