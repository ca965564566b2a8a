"""Measuring models side by side under one perplexity protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from nas_llm.data import packaged_sample, perplexity_windows
from nas_llm.errors import DataError
from nas_llm.evaluation import count_block_params, count_macs_per_token, load_any, model_perplexity
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.models import PACKAGED_MODELS, on_device, resolve_device
from nas_llm.workflow._types import ModelRow


def evaluate_models(
    models: Sequence[str],
    *,
    text: Path | None = None,
    window: int = 1024,
    windows: int | None = None,
    base: str | None = None,
    device: str = "auto",
    on_event: EventHandler = ignore,
) -> list[ModelRow]:
    """Perplexity, sizes and MACs of dense models and exports, in float32.

    Args:
        models: Packaged names, hub names, directories or ``.gguf`` files.
        text: A local text file; default: the sample of its own text that ships with a packaged model.
        window: Tokens of a window; the windows do not overlap.
        windows: Number of windows from the beginning of the text; default all.
        base: Dense model that inheriting ratios are taken against.
        device: Where to run.
        on_event: Told what happens.

    Raises:
        ModelError: If a model cannot be loaded.
        DataError: If there is no text, or it is shorter than a window.
    """
    source = text or _default_text([*models, *([base] if base else [])])
    target = resolve_device(device)
    base_params = None
    if base is not None and base not in models:
        base_params = count_block_params(load_any(base)[0])
    rows = []
    for name in models:
        model, tokenizer = load_any(name)
        subject = perplexity_windows(source, tokenizer=tokenizer, window=window, max_windows=windows, name="evaluation")
        count = len(subject.tokens)
        stage = f"evaluate {name}"
        on_event(StageStarted(stage, f"{count} windows of {window} tokens", count))
        perplexity = model_perplexity(on_device(model, target), subject, on_window=partial(_advance, on_event, stage))
        on_event(StageFinished(stage))
        block_params = count_block_params(model)
        if name == base:
            base_params = block_params
        rows.append(
            ModelRow(
                name=name,
                params=sum(parameter.numel() for parameter in model.parameters()),
                block_params=block_params,
                inheriting_ratio=None,
                macs_per_token=count_macs_per_token(model, window),
                perplexity=perplexity,
                window=window,
                windows=count,
                tokens=subject.num_tokens,
                text=str(source),
                text_digest=subject.digest(),
            )
        )
        del model
        if target.type == "cuda":
            torch.cuda.empty_cache()
    if base_params is None:
        return rows
    return [_with_ratio(row, base_params) for row in rows]


def _advance(on_event: EventHandler, stage: str, done: int) -> None:
    on_event(StageAdvanced(stage, done))


def _with_ratio(row: ModelRow, base_params: int) -> ModelRow:
    return replace(row, inheriting_ratio=row.block_params / base_params)


def _default_text(models: Sequence[str]) -> Path:
    for name in models:
        sample = packaged_sample(name) if name in PACKAGED_MODELS else None
        if sample is not None:
            return sample
    raise DataError("no text to measure on; name a file with --text, e.g. --text wikitext2_test.txt")
