"""The three window sets of a problem, which never share a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_llm.config import DataSection, SourceSection
from nas_llm.data._allocation import region_rows, share
from nas_llm.data._sources import SELF, content_hash, read_source
from nas_llm.data._tokens import TokenArray, token_windows
from nas_llm.data._window_set import WindowSet
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "fitness", "held_out")

# A corpus is read no further than this many times what is taken from it: enough to spread over, and bounded.
_READ_FACTOR = 64


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Window sets of one problem; no window stands in two of them."""

    calibration: WindowSet
    fitness: WindowSet
    held_out: WindowSet


@dataclass
class _Text:
    """One text, under all the names it goes by, and the windows that each split takes from it."""

    name: str
    documents: list[str]
    demand: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SPLITS, 0))
    available: int = 0
    windows: dict[str, TokenArray] = field(default_factory=dict)


def build_splits(
    data: DataSection,
    *,
    tokenizer: PreTrainedTokenizerBase,
    self_texts: Callable[[int], list[str]],
    base_dir: Path,
) -> Splits:
    """Cut the sources of a problem into its calibration, fitness and held-out windows.

    A split takes ``tokens // window`` windows, shared between its sources by weight (largest remainder). A text that
    serves several splits, under whatever name, is divided into contiguous regions proportional to what they take, in
    the order calibration, fitness, held-out; inside its region a split takes evenly spaced windows. Nothing is random.
    Two slices or columns of one data set count as two texts: choose such as do not overlap.

    Args:
        data: The ``[data]`` section.
        tokenizer: Tokenizer of the dense model.
        self_texts: Given a number of tokens, at least that much text of the dense model's own; called at most once.
        base_dir: Folder that relative paths start from.

    Raises:
        DataError: If a source cannot be read or is too short.
    """
    quotas = {split: _quota(data, split) for split in SPLITS}
    documents = _read_all(data, quotas, self_texts=self_texts, base_dir=base_dir)
    keys = {identity: content_hash(texts) for identity, texts in documents.items()}
    texts: dict[str, _Text] = {}
    for split, quota in quotas.items():
        for section, count in quota:
            identity = _identity(section)
            text = texts.setdefault(keys[identity], _Text(section.source, documents[identity]))
            text.demand[split] += count
    for text in texts.values():
        _cut(text, tokenizer=tokenizer, window=data.window)

    sets: dict[str, WindowSet] = {}
    for split, quota in quotas.items():
        parts: list[TokenArray] = []
        sources: list[dict[str, Any]] = []
        for section, count in quota:
            key = keys[_identity(section)]
            text = texts[key]
            parts.append(text.windows[split][:count])
            text.windows[split] = text.windows[split][count:]
            sources.append(
                section.model_dump() | {"content": key, "windows": count, "windows_available": text.available}
            )
        sets[split] = WindowSet(tokens=np.concatenate(parts), name=split, sources=tuple(sources))
    return Splits(**sets)


def _quota(data: DataSection, split: str) -> list[tuple[SourceSection, int]]:
    section = getattr(data, split)
    counts = share(section.tokens // data.window, [source.weight for source in section.sources])
    return list(zip(section.sources, counts, strict=True))


def _identity(section: SourceSection) -> SourceSection:
    """What decides the text of a source: all but its weight; of ``self`` only its name."""
    if section.source == SELF:
        return SourceSection(source=SELF)
    return section.model_copy(update={"weight": 1.0})


def _read_all(
    data: DataSection,
    quotas: dict[str, list[tuple[SourceSection, int]]],
    *,
    self_texts: Callable[[int], list[str]],
    base_dir: Path,
) -> dict[SourceSection, list[str]]:
    """Every source's documents, files first: their mistakes are found before the dense model starts to write."""
    wanted: dict[SourceSection, int] = {}
    for quota in quotas.values():
        for section, count in quota:
            wanted[_identity(section)] = wanted.get(_identity(section), 0) + count
    documents = {identity: read_source(identity, base_dir=base_dir) for identity in wanted if identity.source != SELF}
    own = SourceSection(source=SELF)
    if own in wanted:
        # One window of margin: joining and cutting documents may lose part of one.
        documents[own] = self_texts((wanted[own] + 1) * data.window) if wanted[own] else []
    return documents


def _cut(text: _Text, *, tokenizer: PreTrainedTokenizerBase, window: int) -> None:
    """Give every split its windows of one text."""
    needed = sum(text.demand.values())
    limit = needed * window * _READ_FACTOR
    windows = token_windows(tokenizer, text.documents, window=window, max_tokens=limit)
    text.available = len(windows)
    if len(windows) < needed:
        users = ", ".join(f"{split} {count * window}" for split, count in text.demand.items() if count)
        raise DataError(
            f"source {text.name!r} is too short: it has {len(windows) * window} tokens in whole windows of {window}, "
            f"needed are {needed * window} ({users}); give a longer text, fewer tokens or a shorter window"
        )
    for split, rows in zip(SPLITS, region_rows(len(windows), list(text.demand.values())), strict=True):
        text.windows[split] = windows[rows]
