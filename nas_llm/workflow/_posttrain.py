"""An export trained a little, and written as an export again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.config import SelfSampleSection
from nas_llm.data import WindowSet, perplexity_windows
from nas_llm.errors import ConfigError, Interrupted, ModelError
from nas_llm.evaluation import check_reload, load, load_any
from nas_llm.events import EventHandler, Notice, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.export import PROVENANCE_FILE, read_provenance, staged_directory
from nas_llm.models import load_model, resolve_device, resolve_model
from nas_llm.posttrain import (
    CURVE_FILE,
    CurvePoint,
    PosttrainSettings,
    Trained,
    check_teacher,
    describe_stage,
    require_packages,
    train,
    training_method,
    write_posttrained,
)
from nas_llm.runs import package_versions
from nas_llm.session import self_texts
from nas_llm.settings import EvaluationDefaults, PosttrainTextDefaults
from nas_llm.workflow._exports import compare_revision, named_by_export


@dataclass(frozen=True, kw_only=True)
class PosttrainRecord:
    """One export that was trained and written again.

    Attributes:
        path: The written directory.
        curve: Its learning curve: one JSON object a line.
        method: ``lora`` or ``full``.
        steps: Optimizer steps.
        tokens: Tokens seen, repetitions counted.
        seconds: Training time, without loading, measuring and writing.
        loss: Of the last step.
        held_out_perplexity: (before, after) on held-out text; None where there was none.
        interrupted: Whether it was stopped before its budget was spent.
    """

    path: Path
    curve: Path
    method: str
    steps: int
    tokens: int
    seconds: float
    loss: float | None
    held_out_perplexity: tuple[float | None, float | None]
    interrupted: bool


SELF = "self"
_SELF_TOKENS = 32_768
_STAGE = "posttrain"


@dataclass(frozen=True, kw_only=True)
class PosttrainTexts:
    """What an export is trained on and measured on.

    Attributes:
        text: A text file, or ``self`` for text that the dense model wrote.
        tokens: How much of it, from its beginning; None = all of a file, 32,768 tokens of ``self``.
        window: Tokens of one window.
        held_out: Text to measure the learning curve on; None = none.
        held_out_window: Tokens of one window of it; None = ``window``.
        held_out_windows: Windows of it, from its beginning; None = all.

    Raises:
        ConfigError: If a number is out of range.
    """

    text: str
    tokens: int | None = None
    window: int = PosttrainTextDefaults.window
    held_out: Path | None = None
    held_out_window: int | None = None
    held_out_windows: int | None = PosttrainTextDefaults.held_out_windows

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ConfigError(f"window = {self.window} should be at least 2: the first token is never predicted")
        if self.tokens is not None and self.tokens < self.window:
            raise ConfigError(f"tokens = {self.tokens} is less than one window of {self.window}; take more of them")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Inputs:
    """What a training needs, loaded.

    Attributes:
        model: The subnet.
        document: What its export says of itself.
        windows: Text to train on.
        held_out: Text to measure on.
        teacher: Model to train towards, and its ``source`` and ``revision``.
        device: Where.
    """

    model: PreTrainedModel
    document: Mapping[str, Any]
    windows: WindowSet
    held_out: WindowSet | None
    teacher: tuple[PreTrainedModel, dict[str, str]] | None
    device: torch.device


def posttrain_export(
    export: Path,
    texts: PosttrainTexts,
    settings: PosttrainSettings,
    *,
    output: Path | None = None,
    distill: bool = False,
    teacher: str | None = None,
    device: str = EvaluationDefaults.device,
    force: bool = False,
    on_event: EventHandler = ignore,
    should_stop: Callable[[], bool] = lambda: False,
) -> PosttrainRecord | None:
    """Train an export and write it as an export of the same form, masks and sizes; whole or not at all.

    Args:
        export: What ``nas-llm export`` wrote in the format ``hf``, or this function did.
        texts: What it is trained on.
        settings: How, and for how long.
        output: Where to; default ``<export>-<method>`` beside it.
        distill: Train towards the predictions of the dense model that the export comes from, not towards the text.
        teacher: Train towards those of this model.
        device: Where to train.
        force: Replace an earlier export at ``output``.
        on_event: Told what happens.
        should_stop: Polled after each step; True ends the training, and what it has reached is written.

    Returns:
        What was written; None if it was stopped before the first step.

    Raises:
        ConfigError: If a package is missing.
        ModelError: If the export or the teacher cannot be used, or the training diverged.
        DataError: If a text cannot be read or is too short.
        ExportError: If something is in the way at ``output``, or it cannot be written.
    """
    method = training_method(settings.method)
    require_packages(method.packages, what=f"method {method.name}")
    directory = output or export.parent / f"{export.name}-{settings.method}"
    try:
        with staged_directory(directory, force=force) as staging:
            inputs = _inputs(export, texts, teacher=teacher, distill=distill, device=device, on_event=on_event)
            if should_stop():
                raise Interrupted
            trained = _train(inputs, settings, on_event=on_event, should_stop=should_stop)
            stage = describe_stage(
                trained,
                settings,
                text=inputs.windows.describe(),
                held_out=None if inputs.held_out is None else inputs.held_out.describe(),
                teacher=None if inputs.teacher is None else inputs.teacher[1],
                source_revision=resolve_model(str(export))[1] or "unknown",
                command=_command(export, texts, settings, teacher=teacher, distill=distill),
                versions=package_versions() | {name: version(name) for name in method.packages},
            )
            write_posttrained(
                trained.model, export, staging, document=inputs.document, stage=stage, curve=trained.curve
            )
            check_reload(trained.model, staging, directory, inputs.windows)
    except Interrupted:
        return None
    last = trained.last
    return PosttrainRecord(
        path=directory,
        curve=directory / CURVE_FILE,
        method=settings.method,
        steps=last.step,
        tokens=last.tokens,
        seconds=last.seconds,
        loss=last.loss,
        held_out_perplexity=(trained.curve[0].perplexity, last.perplexity),
        interrupted=trained.interrupted,
    )


def _inputs(
    export: Path, texts: PosttrainTexts, *, teacher: str | None, distill: bool, device: str, on_event: EventHandler
) -> _Inputs:
    on_event(StageStarted("model", str(export)))
    document, target = read_provenance(export), resolve_device(device)
    model, tokenizer = load(export)
    if document is None:
        raise ModelError(f"{export} is no export of nas-llm: it has no {PROVENANCE_FILE}")
    on_event(StageFinished("model"))
    on_event(StageStarted("data"))
    if texts.text == SELF:
        windows = _own_windows(document, tokenizer, texts, target, on_event)
    else:
        windows = _windows(Path(texts.text), tokenizer, texts.window, texts.tokens and texts.tokens // texts.window)
    held_out = None
    if texts.held_out is not None:
        held_out = _windows(
            texts.held_out, tokenizer, texts.held_out_window or texts.window, texts.held_out_windows, name="held_out"
        )
    on_event(StageFinished("data", f"{windows.num_tokens:,} tokens to train on"))
    return _Inputs(
        model=model,
        document=document,
        windows=windows,
        held_out=held_out,
        teacher=_teacher(document, model, tokenizer, teacher, on_event) if distill or teacher else None,
        device=target,
    )


def _train(
    inputs: _Inputs, settings: PosttrainSettings, *, on_event: EventHandler, should_stop: Callable[[], bool]
) -> Trained:
    by_time = settings.steps is None and settings.seconds is not None
    steps = settings.steps or -(-len(inputs.windows.tokens) // min(settings.batch, len(inputs.windows.tokens)))
    total = int(settings.seconds or 0) if by_time else steps
    towards = "the text" if inputs.teacher is None else inputs.teacher[1]["source"]
    on_event(
        StageStarted(_STAGE, f"{settings.method}, towards {towards}, {total} {'s' if by_time else 'steps'}", total)
    )

    def show(point: CurvePoint) -> None:
        if point.perplexity is not None:
            on_event(Notice(f"step {point.step}, {point.seconds:.0f} s: held-out perplexity {point.perplexity:.3f}"))
        on_event(StageAdvanced(_STAGE, min(total, int(point.seconds) if by_time else point.step)))

    trained = train(
        inputs.model,
        inputs.windows,
        settings=settings,
        device=inputs.device,
        teacher=None if inputs.teacher is None else inputs.teacher[0],
        held_out=inputs.held_out,
        on_point=show,
        should_stop=should_stop,
    )
    on_event(StageFinished(_STAGE, f"{trained.last.step} steps, {trained.last.tokens:,} tokens"))
    return trained


def _windows(
    path: Path, tokenizer: PreTrainedTokenizerBase, window: int, count: int | None, *, name: str = "posttrain"
) -> WindowSet:
    return perplexity_windows(path, tokenizer=tokenizer, window=window, max_windows=count, name=name)


def _own_windows(
    document: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    texts: PosttrainTexts,
    device: torch.device,
    on_event: EventHandler,
) -> WindowSet:
    """Windows of the text that the dense model wrote."""
    tokens = texts.tokens or max(_SELF_TOKENS, texts.window)
    dense = load_model(document["base_model"], offload=False)
    found = self_texts(dense, tokens, settings=SelfSampleSection(), device=device, on_event=on_event)
    windows = perplexity_windows(
        found, tokenizer=tokenizer, window=texts.window, max_windows=tokens // texts.window, name="posttrain"
    )
    return replace(windows, sources=tuple({**source, "source": SELF} for source in windows.sources))


def _teacher(
    document: Mapping[str, Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    name: str | None,
    on_event: EventHandler,
) -> tuple[PreTrainedModel, dict[str, str]]:
    source = name or document["base_model"]
    on_event(StageStarted("teacher", source))
    with named_by_export(name, option="--teacher"):
        teacher, teacher_tokenizer = load_any(source, dtype=None)
    check_teacher(model, tokenizer, teacher, teacher_tokenizer, name=source)
    revision = resolve_model(source)[1] or getattr(teacher.config, "_commit_hash", None) or "unknown"
    if name is None:
        compare_revision(source, revision, document, on_event)
    on_event(StageFinished("teacher"))
    return teacher.requires_grad_(False), {"source": source, "revision": revision}


def _command(
    export: Path, texts: PosttrainTexts, settings: PosttrainSettings, *, teacher: str | None, distill: bool
) -> str:
    """What does it again."""
    words = ["nas-llm", "posttrain", str(export), "--text", texts.text, "--method", settings.method]
    words += ["--teacher", teacher] if teacher else ["--distill"] if distill else []
    words += [] if settings.steps is None else ["--steps", str(settings.steps)]
    words += [] if settings.seconds is None else ["--minutes", f"{settings.seconds / 60:g}"]
    words += [] if texts.tokens is None else ["--tokens", str(texts.tokens)]
    words += ["--window", str(texts.window), "--batch", str(settings.batch), "--lr", f"{settings.peak:g}"]
    words += ["--rank", str(settings.rank)] if settings.method == "lora" else []
    return shlex.join([*words, "--dtype", settings.dtype, "--seed", str(settings.seed)])
