"""``nas-llm export``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    PadOption,
    PointOption,
    RunArgument,
    SamplesOption,
    fail,
    line,
    output,
    parse_count,
    quiet_libraries,
)
from nas_llm.errors import ConfigError
from nas_llm.settings import ExportDefaults


def export(
    run: RunArgument,
    point: PointOption = None,
    max_macs: MaxMacsOption = None,
    max_params: MaxParamsOption = None,
    min_ratio: MinRatioOption = None,
    max_ratio: MaxRatioOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where to write; default <run>/exports.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="hf, gguf, decilm, or one of your own; several with commas or by repeating. Default "
            f"{','.join(ExportDefaults.formats)}.",
        ),
    ] = None,
    dtype: Annotated[
        list[str] | None,
        typer.Option(
            "--dtype",
            metavar="TYPE",
            help="Type of the weights, e.g. float16, for all formats or for one: gguf=q8_0; may be repeated.",
        ),
    ] = None,
    method: MethodOption = None,
    samples: SamplesOption = None,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Largest weight file of a Hugging Face directory.")
    ] = ExportDefaults.max_shard_size,
    pad: PadOption = ExportDefaults.pad,
    jobs: Annotated[
        int, typer.Option("--jobs", "--workers", metavar="N", help="Points at a time, where memory allows.")
    ] = ExportDefaults.jobs,
    memory: FinishMemoryOption = None,
    model: ModelOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier exports of these points.")] = False,
) -> None:
    """Reconstruct, write and measure points of a front.

    Without --point: the best point within --max-macs, --max-params and --max-ratio, else the smallest one within
    --min-ratio, else the knee. What is exported already is left alone, so a command that was stopped goes on when it is
    said again.

    \b
    Examples:
      nas-llm export runs/demo
      nas-llm export runs/demo --point knee --point ratio=0.9 --point p02
      nas-llm export runs/demo --max-macs 140M --out models/small
      nas-llm export runs/demo --point p03 --method sequential --samples 128 --out models/sequential
      nas-llm export runs/demo --point all --format hf,gguf --dtype gguf=q8_0 --jobs 2
      nas-llm export runs/heads --point knee --format hf,gguf --pad
    """
    from nas_llm.cli.terminal import export_table, progress
    from nas_llm.runs import find_run, open_run

    most_macs, most_params = parse_count(max_macs, "--max-macs"), parse_count(max_params, "--max-params")
    wanted = parse_formats(formats or ExportDefaults.formats)
    types = parse_types(dtype or (), wanted)
    opened = open_run(find_run(run), model=model)
    points = opened.front.select(
        point or (), max_macs=most_macs, max_params=most_params, min_ratio=min_ratio, max_ratio=max_ratio
    )
    quiet_libraries()
    from nas_llm.workflow import ExportRefused, export_points

    refusals: list[str] = []
    with progress() as on_event:
        try:
            records = export_points(
                opened,
                points,
                out=out,
                formats=wanted,
                dtype=types,
                max_shard_size=max_shard_size,
                pad=pad,
                method=method,
                samples=samples,
                jobs=jobs,
                memory_gb=memory,
                force=force,
                on_event=on_event,
            )
        except ExportRefused as refused:
            records, refusals = refused.records, refused.refusals
    console = output()
    if records:
        console.print(export_table(opened.front, records))
        for loads in dict.fromkeys(record.loads for record in records):
            line(console, f"load: {loads}")
    for refusal in refusals:
        fail(refusal)
    if refusals:
        raise typer.Exit(2)


def parse_formats(texts: Sequence[str]) -> list[str]:
    """``["hf,gguf", "hf"]`` as ``["hf", "gguf"]``.

    Raises:
        ConfigError: If a name is empty.
    """
    names = [name.strip().lower() for text in texts for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"--format {','.join(texts)!r} has an empty name; write e.g. --format hf,gguf")
    return list(dict.fromkeys(names))


def parse_types(texts: Sequence[str], formats: Sequence[str]) -> dict[str, str]:
    """``["float16", "gguf=q8_0"]`` as a type for each format; one that names its format wins.

    Raises:
        ConfigError: If an entry is empty, or two of them speak of the same.
    """
    types: dict[str, str] = {}
    common = [text for text in texts if "=" not in text]
    for text in texts:
        name, _, value = text.rpartition("=")
        if not value.strip() or ("=" in text and not name.strip()):
            raise ConfigError(f"--dtype {text!r} names no type; write e.g. --dtype float16 or --dtype gguf=q8_0")
        if name and name in types:
            raise ConfigError(f"--dtype gives {name} two types, {types[name]} and {value}; leave one away")
        if name:
            types[name.strip().lower()] = value.strip()
    if len(common) > 1:
        raise ConfigError(f"--dtype {' and '.join(common)} are both for all formats; write e.g. gguf={common[-1]}")
    return {**(dict.fromkeys(formats, common[0]) if common else {}), **types}
