"""``nas-llm convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nas_llm.cli.terminal import ModelOption, PadOption, line, output, quiet_libraries
from nas_llm.settings import ExportDefaults


def convert(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="An hf export, post-trained or not.")],
    format: Annotated[str, typer.Option("--format", metavar="NAME", help="gguf, decilm or a format of your own.")],
    dtype: Annotated[
        str | None, typer.Option("--dtype", metavar="TYPE", help="Type of the weights; default the format's first.")
    ] = None,
    pad: PadOption = ExportDefaults.pad,
    model: ModelOption = None,
    out: Annotated[
        Path | None, typer.Option("--output", "--out", metavar="DIR", help="Where to write; default EXPORT-FORMAT.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export there.")] = False,
) -> None:
    """Write an hf export in another format, with the weights that it has.

    The run is not needed. The dense model is: it gives sizes and tokenizer.

    \b
    Examples:
      nas-llm convert runs/demo/exports/p05/hf-lora --format gguf --dtype q8_0
      nas-llm convert models/p05 --format decilm --model models/SmolLM2-135M --output served/p05
    """
    from nas_llm.cli.terminal import progress

    quiet_libraries()
    from nas_llm.export import export_format
    from nas_llm.workflow import convert_export

    with progress() as on_event:
        written = convert_export(
            export,
            format,
            dtype=dtype,
            pad=pad,
            model=model,
            output=out,
            force=force,
            on_event=on_event,
        )
    line(output(), f"written: {written}")
    line(output(), f"load: {export_format(format).loads}")
