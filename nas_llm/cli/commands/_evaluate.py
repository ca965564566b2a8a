"""``nas-llm evaluate``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
from nas_llm.errors import ConfigError, DataError
from nas_llm.files import check_place, write_atomic
from nas_llm.settings import EvaluationDefaults, PaperProtocol, WorkloadDefaults

if TYPE_CHECKING:
    from nas_llm.config import WorkloadSection

_STANDARD_OUTPUT = Path("-")


class Protocol(StrEnum):
    """What is measured, as somebody else reports it."""

    paper = "paper"


def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL_OR_RUN...", help="Directories, hub names, .gguf files, packaged models, or run directories."
        ),
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point",
            metavar="POINT",
            help="Points of the runs: p03, knee, best, smallest, all, ratio=0.8; several with commas or by repeating.",
        ),
    ] = None,
    perplexity: Annotated[
        list[str] | None,
        typer.Option(
            "--perplexity",
            metavar="TEXT",
            help="wikitext2, ptb, c4, or local files or folders of text; several with commas or by repeating.",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option("--text", metavar="FILE", help="One more text file or folder, whatever its name."),
    ] = None,
    window: Annotated[int, typer.Option(min=2, help="Tokens of one window.")] = EvaluationDefaults.window,
    windows: WindowsOption = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--tasks",
            metavar="TASK",
            help="Tasks and groups of lm-eval, e.g. arc_easy,mmlu,commonsense7; with commas or by repeating.",
        ),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="paper = all of WikiText-2 and PTB in windows of 2,048 tokens, and the seven tasks of the paper.",
        ),
    ] = None,
    include_path: IncludePathOption = None,
    limit: LimitOption = None,
    latency: Annotated[
        bool, typer.Option("--latency", help="Time prefill and decoding, beside the dense model.")
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="Measure peak memory and KV cache beside the dense model.")
    ] = False,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Prompt for --latency and --memory.")
    ] = WorkloadDefaults.prompt_tokens,
    new_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens decoded for these two.")
    ] = WorkloadDefaults.new_tokens,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Sequences at a time for these two.")
    ] = WorkloadDefaults.batch,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Timed runs of each model.")
    ] = WorkloadDefaults.rounds,
    workload: Annotated[
        str | None,
        typer.Option(
            "--workload", metavar="NAME", help="Put models through a workload of the run's problem; as --predict."
        ),
    ] = None,
    predict: Annotated[
        bool,
        typer.Option("--predict", help="--latency and --memory, beside what is predicted of points and exports."),
    ] = False,
    base: Annotated[
        str | None, typer.Option("--base", metavar="MODEL", help="Dense model that ratios are taken against.")
    ] = None,
    method: MethodOption = None,
    samples: SamplesOption = None,
    model: ModelOption = None,
    device: DeviceOption = EvaluationDefaults.device,
    dtype: ArithmeticOption = Arithmetic[EvaluationDefaults.dtype],
    as_json: JsonOption = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the table as a page.")] = None,
) -> None:
    """Measure perplexity, tasks, MACs, parameters, speed and memory of models side by side.

    Perplexity is exp(mean token NLL) over non-overlapping windows of the joined text. Points of a run are finished in
    memory, as nas-llm export would, and measured on the text of their search, too. Without --perplexity, --text,
    --tasks, --latency and --memory the text is a packaged model's own sample.

    \b
    Examples:
      nas-llm evaluate runs/demo/exports/p05/hf --base smollm2-135m
      nas-llm evaluate smollm2-135m exports/p05/hf --text my_text.txt --windows 64
      nas-llm evaluate runs/demo --point knee,ratio=0.8 --perplexity wikitext2,ptb
      nas-llm evaluate smollm2-135m exports/*/hf --tasks commonsense7,mmlu --json scores.json --html scores.html
      nas-llm evaluate exports/p05/hf --base smollm2-135m --protocol paper
      nas-llm evaluate runs/demo --point knee --latency --memory
      nas-llm evaluate runs/demo --point all --workload chat
    """
    from nas_llm.cli.terminal import model_table, progress

    if text is not None and not text.exists():
        raise DataError(f"text file {text} does not exist")
    written = [path for path in (as_json, html) if path is not None and path != _STANDARD_OUTPUT]
    for path in written:
        check_place(path)
    if len({path.resolve() for path in written}) < len(written):
        raise ConfigError(f"--json and --html both name {html}; give each a file of its own")
    if protocol is not None:
        given = {"--perplexity": perplexity, "--text": text, "--windows": windows, "--tasks": tasks, "--limit": limit}
        given["--window"] = None if window == EvaluationDefaults.window else window
        stray = next((name for name, value in given.items() if value is not None), None)
        if stray is not None:
            raise ConfigError(f"--protocol {protocol.value} says what is measured; leave {stray} out")
        fixed = PaperProtocol()
        perplexity, tasks, window, windows = list(fixed.texts), list(fixed.tasks), fixed.window, fixed.windows
    texts: list[str | Path] = [*split_names(perplexity or (), "--perplexity"), *([text] if text else [])]
    count = parse_windows(windows)
    points, suite = split_names(point or (), "--point"), split_names(tasks or (), "--tasks")
    quiet_libraries()
    import torch

    from nas_llm.config import WorkloadSection
    from nas_llm.evaluation import Workload
    from nas_llm.report import evaluation_notes, write_evaluation_page
    from nas_llm.workflow import evaluate_models, measured_with

    predicted = None
    if workload is not None:
        numbers = {"prompt_tokens": prompt_tokens, "new_tokens": new_tokens, "batch": batch}
        predicted = workload_of_run(workload, models, numbers)
        prompt_tokens, new_tokens, batch = predicted.prompt, predicted.new_tokens, predicted.batch
    elif predict:
        name = f"{prompt_tokens}x{new_tokens}"
        predicted = WorkloadSection(name=name, prompt=prompt_tokens, new_tokens=new_tokens, batch=batch)
    with progress() as on_event:
        rows = evaluate_models(
            models,
            text=texts,
            window=window,
            windows=count,
            base=base,
            points=points,
            method=method,
            samples=samples,
            model=model,
            tasks=suite,
            include_path=include_path,
            limit=limit,
            latency=latency or predicted is not None,
            memory=memory or predicted is not None,
            workload=Workload(prompt_tokens=prompt_tokens, new_tokens=new_tokens, batch=batch, rounds=rounds),
            predict=predicted,
            device=device,
            dtype=getattr(torch, dtype.value),
            on_event=on_event,
        )
    versions = measured_with()
    document = json.dumps({"versions": versions, "models": [asdict(row) for row in rows]}, indent=1)
    if as_json == _STANDARD_OUTPUT:
        typer.echo(document)
    else:
        console = output()
        console.print(model_table(rows))
        for note in evaluation_notes(rows):
            line(console, f"  {note}", style="dim")
    if as_json is not None and as_json != _STANDARD_OUTPUT:
        write_atomic(as_json, document + "\n", parents=True)
        line(output(), f"written: {as_json}")
    if html is not None:
        write_evaluation_page(html, rows, versions=versions)
        if as_json != _STANDARD_OUTPUT:
            line(output(), f"written: {html}")


def workload_of_run(name: str, models: Sequence[str], given: Mapping[str, int]) -> WorkloadSection:
    """A workload of the first run among some models.

    Args:
        name: Its name.
        models: What is measured.
        given: Numbers of the other options, which have to be left away.

    Raises:
        ConfigError: If none is a run, its problem has no such workload, or numbers are given, too.
    """
    from nas_llm.config import find_workload
    from nas_llm.runs import named_run, read_problem

    for key, number in given.items():
        if number != getattr(WorkloadDefaults, key):
            raise ConfigError(f"workload {name} has its numbers from the problem; leave --{key.replace('_', '-')} out")
    runs = [directory for directory in map(named_run, models) if directory is not None]
    if not runs:
        raise ConfigError(f"--workload is for runs, and none of {', '.join(models)} is one; give numbers and --predict")
    return find_workload(name, read_problem(runs[0])[0].workload)


def split_names(texts: Sequence[str], option: str) -> list[str]:
    """``["a,b", "b"]`` as ``["a", "b"]``.

    Raises:
        ConfigError: If a name is empty.
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise ConfigError(f"{option} {','.join(texts)!r} has an empty name; leave the comma away")
    return list(dict.fromkeys(names))
