"""The window sets of a problem: three that never share a window, and one to finish with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nas_llm.config import DataSection, OffTextSection, SourceSection, SplitSection
from nas_llm.data._allocation import region_rows, share
from nas_llm.data._sources import by_kind, identity, own_kind, read_source, source_name
from nas_llm.data._token_cache import content_hash
from nas_llm.data._tokens import TokenArray, token_windows
from nas_llm.data._window_set import WindowSet
from nas_llm.data.questions import QuestionSet, build_questions
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "fitness", "held_out")
FINISH, OFF = "reconstruction", "off_text"
_CUT = (*SPLITS, OFF)
# What the finish must not see: it would be judged by text that it was fitted to.
_JUDGES = ("fitness", "held_out", OFF)

# A corpus is read no further than this many times what is taken from it: enough to spread over, and bounded.
_READ_FACTOR = 64


@dataclass(frozen=True, kw_only=True)
class Splits:
    """Window sets of one problem.

    Attributes:
        calibration: Scores units; shares no window with fitness and held-out.
        fitness: Prices candidates.
        held_out: Scores the front.
        reconstruction: Finishes chosen subnets; None where calibration does. Shares no window with fitness and
            held-out, but may with calibration.
        off_text: Scores the front on another kind of text; None where there is none. Shares no window with the others.
        questions: What margin is measured on; None where the problem has none.
    """

    calibration: WindowSet
    fitness: WindowSet
    held_out: WindowSet
    reconstruction: WindowSet | None = None
    off_text: WindowSet | None = None
    questions: QuestionSet | None = None

    @property
    def measured(self) -> tuple[WindowSet | QuestionSet, ...]:
        """What scores, prices and re-scores: all but what chosen subnets are finished with."""
        texts = (self.calibration, self.fitness, self.held_out, self.questions)
        return tuple(text for text in texts if text is not None)

    @property
    def finish(self) -> WindowSet:
        """What chosen subnets are finished with."""
        return self.reconstruction or self.calibration


@dataclass
class _Text:
    """One text, under all the names it goes by, and the windows that each split takes from it.

    Attributes:
        name: One of its names.
        documents: What calibration, fitness, held-out and off-text are cut from.
        more: Further documents, which only the finish may take.
        demand: Windows that each split takes.
        available: Windows there are for each split.
        windows: Windows taken.
    """

    name: str
    documents: list[str]
    more: list[str] = field(default_factory=list)
    demand: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*_CUT, FINISH), 0))
    available: dict[str, int] = field(default_factory=dict)
    windows: dict[str, TokenArray] = field(default_factory=dict)


Quota = list[tuple[SourceSection, int]]


class OwnTexts(Protocol):
    """Writes the dense model's own text."""

    def __call__(self, tokens: int, kind: str = "", /) -> list[str]:
        """At least so many tokens of one kind, or of whatever comes to the model."""


def build_splits(
    data: DataSection,
    *,
    tokenizer: PreTrainedTokenizerBase,
    self_texts: OwnTexts,
    base_dir: Path,
    reconstruction: SplitSection | None = None,
) -> Splits:
    """Cut the sources of a problem into its calibration, fitness and held-out windows.

    A split takes ``tokens // window`` windows, shared between its sources by weight (largest remainder). A text that
    serves several splits, under whatever name, is divided into contiguous regions proportional to what they take, in
    the order calibration, fitness, held-out; inside its region a split takes evenly spaced windows. Nothing is random.
    Two slices or columns of one data set count as two texts: choose such as do not overlap.

    The windows to finish with are cut last, evenly spaced from all that fitness and held-out left: the other three
    are the same with and without them.

    Args:
        data: The ``[data]`` section.
        tokenizer: Tokenizer of the dense model.
        self_texts: The dense model's own text; called at most twice a kind.
        base_dir: Folder that relative paths start from.
        reconstruction: The windows to finish with; None takes calibration's.

    Raises:
        DataError: If a source cannot be read or is too short.
    """
    quotas = {split: _quota(getattr(data, split), data.window) for split in SPLITS}
    if data.off_text.tokens:
        quotas[OFF] = _quota(data.off_text, data.window)
    if reconstruction is not None:
        quotas[FINISH] = _quota(reconstruction, data.window)
    documents, more = _read_all(data.window, quotas, self_texts=self_texts, base_dir=base_dir)
    keys = {section: content_hash(texts) for section, texts in documents.items()}
    texts: dict[str, _Text] = {}
    for split, quota in quotas.items():
        for section, count in quota:
            known = identity(section)
            text = texts.setdefault(keys[known], _Text(source_name(section), documents[known]))
            text.demand[split] += count
            text.more = text.more or more.get(known, [])
    for text in texts.values():
        _cut(text, tokenizer=tokenizer, window=data.window)

    sets: dict[str, WindowSet] = {}
    for split, quota in quotas.items():
        parts: list[TokenArray] = []
        sources: list[dict[str, Any]] = []
        for section, count in quota:
            key = keys[identity(section)]
            text = texts[key]
            parts.append(text.windows[split][:count])
            text.windows[split] = text.windows[split][count:]
            described = {"content": key, "windows": count, "windows_available": text.available[split]}
            sources.append(section.model_dump() | described)
        sets[split] = WindowSet(tokens=np.concatenate(parts), name=split, sources=tuple(sources))
    questions = build_questions(data, tokenizer=tokenizer, base_dir=base_dir)
    return Splits(**sets, questions=questions)


def _quota(section: SplitSection | OffTextSection, window: int) -> Quota:
    sources = by_kind(section.sources)
    # Off-text is there unless it is switched off; the other splits hold a window, a problem is refused otherwise.
    counts = share(max(section.tokens // window, 1), [source.weight for source in sources])
    counted = zip(sources, counts, strict=True)
    # Kinds of a mix that is too small for all of them are left out, sources that were named are not.
    return [(source, count) for source, count in counted if count or source in section.sources]


def _read_all(
    window: int, quotas: dict[str, Quota], *, self_texts: OwnTexts, base_dir: Path
) -> tuple[dict[SourceSection, list[str]], dict[SourceSection, list[str]]]:
    """Every source's documents, and more of the dense model's own that only the finish may take.

    Files come first: their mistakes are found before the dense model starts to write.
    """
    sections = dict.fromkeys(identity(section) for quota in quotas.values() for section, _ in quota)
    documents = {known: read_source(known, base_dir=base_dir) for known in sections if own_kind(known) is None}
    more: dict[SourceSection, list[str]] = {}
    for own in sections:
        kind = own_kind(own)
        if kind is None:
            continue
        wanted = {
            split: sum(count for section, count in quota if identity(section) == own) for split, quota in quotas.items()
        }
        arguments = (kind,) if kind else ()
        # One window of margin: joining and cutting documents may lose part of one.
        first = sum(wanted.get(split, 0) for split in _CUT)
        documents[own] = self_texts((first + 1) * window, *arguments) if first else []
        last = sum(wanted.get(split, 0) for split in (*_JUDGES, FINISH))
        if wanted.get(FINISH) and last > first:
            # A longer text may be another one altogether, e.g. where a shipped sample no longer suffices.
            known = set(documents[own])
            more[own] = [text for text in self_texts((last + 1) * window, *arguments) if text not in known]
    return documents, more


def _cut(text: _Text, *, tokenizer: PreTrainedTokenizerBase, window: int) -> None:
    """Give every split its windows of one text."""
    needed = sum(text.demand[split] for split in _CUT)
    limit = needed * window * _READ_FACTOR
    windows = token_windows(tokenizer, text.documents, window=window, max_tokens=limit)
    if len(windows) < needed:
        raise _too_short(text, len(windows), needed, _CUT, window)
    regions = region_rows(len(windows), [text.demand[split] for split in _CUT])
    rows = dict(zip(_CUT, regions, strict=True))
    for split in _CUT:
        text.windows[split], text.available[split] = windows[rows[split]], len(windows)

    wanted = text.demand[FINISH]
    judged = np.concatenate([rows[split] for split in _JUDGES])
    if len(windows) < len(judged) + wanted:
        # Reading on, or appending documents, leaves the windows before as they were.
        limit += wanted * window * _READ_FACTOR
        windows = token_windows(tokenizer, [*text.documents, *text.more], window=window, max_tokens=limit)
    if len(windows) < len(judged) + wanted:
        raise _too_short(text, len(windows), len(judged) + wanted, (*_JUDGES, FINISH), window)
    free = np.setdiff1d(np.arange(len(windows)), judged)
    text.windows[FINISH], text.available[FINISH] = windows[free[region_rows(len(free), [wanted])[0]]], len(windows)


def _too_short(text: _Text, found: int, needed: int, splits: Sequence[str], window: int) -> DataError:
    users = ", ".join(f"{split} {text.demand[split] * window}" for split in splits if text.demand[split])
    return DataError(
        f"source {text.name!r} is too short: it has {found * window} tokens in whole windows of {window}, "
        f"needed are {needed * window} ({users}); give a longer text, fewer tokens or a shorter window"
    )
