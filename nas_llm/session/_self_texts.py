"""The dense model's own text, from the package, the cache, or sampled now."""

from __future__ import annotations

import torch

from nas_llm.cache import cache_dir
from nas_llm.config import SelfSampleSection
from nas_llm.data import packaged_sample, read_texts, written_questions
from nas_llm.data.self_text import cached_self_texts
from nas_llm.errors import DataError
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.models import DenseModel, on_device

# Beyond this a CPU writes for days and a GPU for hours; whoever wants more has a text, or writes one on purpose.
_MOST_TOKENS = 1 << 22


def self_texts(
    dense: DenseModel,
    tokens: int,
    kind: str = "",
    *,
    settings: SelfSampleSection,
    device: torch.device,
    on_event: EventHandler,
) -> list[str]:
    """The dense model's own text: the sample that ships with the package if it is long enough, else sampled now.

    Questions begin with those that were written for the package: what a small model asks and answers by itself does not
    keep it able to answer (docs/problems.md has the numbers). The model writes what is asked for beyond them.

    Args:
        dense: The model.
        tokens: How much of it, at least.
        kind: Of text, see source ``auto``; "" = whatever comes to the model.
        settings: How it is sampled.
        device: Where.
        on_event: Called with events of sampling.

    Raises:
        DataError: If it would have to be sampled by a model that stays on disk, or is more than 4,194,304 tokens.
    """
    written = list(written_questions()) if kind == "questions" else []
    if written:
        tokens -= _count(dense, written)
        if tokens <= 0:
            return written
    shipped = packaged_sample(dense.sample, kind) if dense.sample else None
    if shipped is not None and settings == type(settings)():
        texts = read_texts(shipped)
        if _count(dense, texts) >= tokens:
            return [*written, *texts]
    source = "auto" if kind else "self"
    if tokens > _MOST_TOKENS:
        raise DataError(
            f"{tokens:,} tokens of the model's own text (source {source}) are asked for, and no more than "
            f"{_MOST_TOKENS:,} are sampled; take fewer tokens or --samples, or give a file or a hub dataset as source"
        )
    if dense.files is not None:
        raise DataError(
            f"model '{dense.source}' stays on disk (model.offload) and cannot write its own text; give data.*.sources "
            "other than auto and self"
        )
    what = f"the model's own text ({kind})" if kind else "the model's own text"
    on_event(StageStarted("sampling", f"{tokens:,} tokens of {what}; kept for later runs", tokens))
    model = on_device(dense.model, device)
    try:
        texts = cached_self_texts(
            model,
            dense.tokenizer,
            identity=dense.revision,
            settings=settings,
            min_tokens=tokens,
            cache_dir=cache_dir() / "self",
            kind=kind,
            on_progress=lambda done: on_event(StageAdvanced("sampling", min(done, tokens))),
        )
    finally:
        on_device(model, torch.device("cpu"))
    on_event(StageFinished("sampling"))
    return [*written, *texts]


def _count(dense: DenseModel, texts: list[str]) -> int:
    """Tokens of all texts."""
    return sum(map(len, dense.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]))
