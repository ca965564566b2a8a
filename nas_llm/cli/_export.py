"""``nas-llm export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli import _backend
from nas_llm.cli._console import line, output
from nas_llm.cli._counts import parse_count
from nas_llm.cli._options import MaxMacsOption, MaxParamsOption, MinRatioOption, PointOption, RunArgument
from nas_llm.cli._run_directory import find_run


class Format(StrEnum):
    """Forms a subnet can be written in."""

    HF = "hf"


def export(
    run: RunArgument,
    point: PointOption = None,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    min_ratio: MinRatioOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default <run>/exports.")
    ] = None,
    formats: Annotated[
        list[Format] | None,
        typer.Option("--format", metavar="FORMAT", help="hf: a Hugging Face directory; may be repeated."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier exports of these points.")] = False,
) -> None:
    """Reconstruct, write and measure points of a front.

    Without --point: the best point within --max-macs and --max-params, else the smallest one within --min-ratio, else
    the knee.

    \b
    Examples:
      nas-llm export runs/demo
      nas-llm export runs/demo --point knee --point ratio=0.9 --point p02
      nas-llm export runs/demo --max-macs 140M --out models/small
    """
    from nas_llm.cli._progress import progress
    from nas_llm.cli._tables import export_table

    limits = {"max_macs": parse_count(max_macs, "--max-macs"), "max_params": parse_count(max_params, "--max-params")}
    opened = _backend.open_run(find_run(run))
    points = opened.front.select(point or (), **limits, min_ratio=min_ratio)
    wanted = [form.value for form in formats or [Format.HF]]
    with progress() as on_event:
        records = _backend.export_points(
            opened, points, out=out, formats=list(dict.fromkeys(wanted)), force=force, on_event=on_event
        )
    console = output()
    console.print(export_table(opened.front, records))
    line(console, "load: AutoModelForCausalLM.from_pretrained(DIRECTORY, trust_remote_code=True)")
