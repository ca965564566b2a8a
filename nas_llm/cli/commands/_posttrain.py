"""``nas-llm posttrain``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_llm import display
from nas_llm.cli.terminal import (
    INTERRUPTED,
    StopOnInterrupt,
    line,
    output,
    parse_count,
    progress_output,
    quiet_libraries,
)
from nas_llm.errors import ConfigError
from nas_llm.settings import LEARNING_RATES, PosttrainDefaults, PosttrainTextDefaults

if TYPE_CHECKING:
    from nas_llm.workflow import PosttrainRecord


def _rates() -> str:
    return ", ".join(f"{rate:g} for {name}" for name, rate in LEARNING_RATES.items())


def posttrain(
    export: Annotated[Path, typer.Argument(metavar="EXPORT", help="An hf export, e.g. runs/demo/exports/p05/hf.")],
    text: Annotated[
        str,
        typer.Option("--text", metavar="FILE|self", help="Text to train on; self = text that the dense model wrote."),
    ],
    method: Annotated[
        str, typer.Option("--method", metavar="NAME", help="lora (merged at the end) or full (all weights).")
    ] = PosttrainDefaults.method,
    distill: Annotated[
        bool, typer.Option("--distill", help="Train towards the dense model's predictions (KL), not the text's tokens.")
    ] = False,
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="MODEL", help="As --distill, with the dense model named here.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", metavar="M", help="Training time at most; measuring is not counted.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", metavar="N", help="Steps at most; default with --minutes no limit, else one pass."),
    ] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="N", help="How much of the text to take, e.g. 64k; default all.")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", metavar="X", help=f"Peak learning rate; default {_rates()}."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", metavar="N", help="Windows a step.")] = PosttrainDefaults.batch,
    window: Annotated[
        int, typer.Option("--window", metavar="N", help="Tokens of one window.")
    ] = PosttrainTextDefaults.window,
    rank: Annotated[int, typer.Option("--rank", metavar="N", help="Rank of lora's updates.")] = PosttrainDefaults.rank,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Seed of the order of windows and of lora's start.")
    ] = PosttrainDefaults.seed,
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="TYPE", help="Arithmetic: float32, bfloat16, or auto = the faster here.")
    ] = PosttrainDefaults.dtype,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", metavar="FILE", help="Text to measure perplexity on along the way.")
    ] = None,
    windows: Annotated[
        int, typer.Option("--windows", min=1, metavar="N", help="Windows of it to measure.")
    ] = PosttrainTextDefaults.held_out_windows,
    out: Annotated[
        Path | None, typer.Option("--output", "--out", metavar="DIR", help="Where to write; default EXPORT-METHOD.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export there.")] = False,
) -> None:
    """Train an export for a short time and write it as an export of the same form.

    Masks and sizes stay; the result loads like any export, without peft. It says what was done in its card and in
    nas_llm.json, and learning_curve.jsonl beside the weights has loss and held-out perplexity over time.

    \b
    Examples:
      nas-llm posttrain runs/demo/exports/p05/hf --text my_text.txt --minutes 15
      nas-llm posttrain exports/p05/hf --text my_text.txt --distill --held-out other_text.txt
      nas-llm posttrain exports/p05/hf --text self --method full --teacher smollm2-135m --steps 200
      nas-llm posttrain exports/p05/hf --text my_text.txt --tokens 1M --lr 3e-4 --output models/p05-tuned

    Ctrl-C ends the training and writes what it has reached; a second one aborts and leaves nothing. LoRA needs
    pip install 'nas-llm[posttrain]'.
    """
    from nas_llm.cli.terminal import progress

    count = parse_count(tokens, "--tokens")
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"--minutes {minutes:g} should be above 0")
    console = progress_output()

    def stopping() -> None:
        line(console, "stopping after the present step; Ctrl-C again aborts and leaves nothing")

    quiet_libraries()
    from nas_llm.posttrain import PosttrainSettings
    from nas_llm.workflow import PosttrainTexts, posttrain_export

    with progress(console) as on_event, StopOnInterrupt(stopping) as interrupt:
        record = posttrain_export(
            export,
            PosttrainTexts(
                text=text,
                tokens=None if count is None else int(count),
                window=window,
                held_out=held_out,
                held_out_windows=windows,
            ),
            PosttrainSettings(
                method=method,
                learning_rate=lr,
                steps=steps,
                seconds=None if minutes is None else 60.0 * minutes,
                batch=batch,
                rank=rank,
                seed=seed,
                dtype=dtype,
            ),
            output=out,
            distill=distill,
            teacher=teacher,
            force=force,
            on_event=on_event,
            should_stop=interrupt.asked,
        )
    if record is None:
        line(output(), "interrupted before the training began; nothing was written")
        raise typer.Exit(INTERRUPTED)
    _show(record)
    if record.interrupted:
        raise typer.Exit(INTERRUPTED)


def _show(record: PosttrainRecord) -> None:
    console = output()
    line(
        console,
        f"{record.method}: {record.steps:,} steps, {record.tokens:,} tokens, {display.duration(record.seconds)}, "
        f"loss {record.loss:.4f}",
    )
    before, after = record.held_out_perplexity
    if before is not None:
        line(console, f"held-out perplexity: {display.perplexity(before)} before, {display.perplexity(after)} after")
    line(console, f"written: {record.path}")
    line(console, f"learning curve: {record.curve}")
    line(console, f"next: nas-llm evaluate {shlex.quote(str(record.path))}")
