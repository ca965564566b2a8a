"""The window sets of a problem: three that never share a window, and one to finish with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_llm.config import DataSection, SourceSection, SplitSection
from nas_llm.data._allocation import region_rows, share
from nas_llm.data._sources import SELF, read_source
from nas_llm.data._token_cache import content_hash
from nas_llm.data._tokens import TokenArray, token_windows
from nas_llm.data._window_set import WindowSet
from nas_llm.data.questions import QuestionSet, build_questions
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPLITS = ("calibration", "fitness", "held_out")
FINISH = "reconstruction"
# What the finish must not see: it would be judged by text that it was fitted to.
_JUDGES = ("fitness", "held_out")

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
        questions: What margin is measured on; None where the problem has none.
    """

    calibration: WindowSet
    fitness: WindowSet
    held_out: WindowSet
    reconstruction: WindowSet | None = None
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
        documents: What calibration, fitness and held-out are cut from.
        more: Further documents, which only the finish may take.
        demand: Windows that each split takes.
        available: Windows there are for each split.
        windows: Windows taken.
    """

    name: str
    documents: list[str]
    more: list[str] = field(default_factory=list)
    demand: dict[str, int] = field(default_factory=lambda: dict.fromkeys((*SPLITS, FINISH), 0))
    available: dict[str, int] = field(default_factory=dict)
    windows: dict[str, TokenArray] = field(default_factory=dict)


Quota = list[tuple[SourceSection, int]]


def build_splits(
    data: DataSection,
    *,
    tokenizer: PreTrainedTokenizerBase,
    self_texts: Callable[[int], list[str]],
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
        self_texts: Given a number of tokens, at least that much text of the dense model's own; called at most twice.
        base_dir: Folder that relative paths start from.
        reconstruction: The windows to finish with; None takes calibration's.

    Raises:
        DataError: If a source cannot be read or is too short.
    """
    quotas = {split: _quota(getattr(data, split), data.window) for split in SPLITS}
    if reconstruction is not None:
        quotas[FINISH] = _quota(reconstruction, data.window)
    documents, more = _read_all(data.window, quotas, self_texts=self_texts, base_dir=base_dir)
    keys = {identity: content_hash(texts) for identity, texts in documents.items()}
    texts: dict[str, _Text] = {}
    for split, quota in quotas.items():
        for section, count in quota:
            identity = _identity(section)
            text = texts.setdefault(keys[identity], _Text(section.source, documents[identity]))
            text.demand[split] += count
            text.more = text.more or (more if section.source == SELF else [])
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
            described = {"content": key, "windows": count, "windows_available": text.available[split]}
            sources.append(section.model_dump() | described)
        sets[split] = WindowSet(tokens=np.concatenate(parts), name=split, sources=tuple(sources))
    questions = build_questions(data, tokenizer=tokenizer, base_dir=base_dir)
    return Splits(**sets, questions=questions)


def _quota(section: SplitSection, window: int) -> Quota:
    counts = share(section.tokens // window, [source.weight for source in section.sources])
    return list(zip(section.sources, counts, strict=True))


def _identity(section: SourceSection) -> SourceSection:
    """What decides the text of a source: all but its weight; of ``self`` only its name."""
    if section.source == SELF:
        return SourceSection(source=SELF)
    return section.model_copy(update={"weight": 1.0})


def _read_all(
    window: int, quotas: dict[str, Quota], *, self_texts: Callable[[int], list[str]], base_dir: Path
) -> tuple[dict[SourceSection, list[str]], list[str]]:
    """Every source's documents, and more of the dense model's own that only the finish may take.

    Files come first: their mistakes are found before the dense model starts to write.
    """
    sections = dict.fromkeys(_identity(section) for quota in quotas.values() for section, _ in quota)
    documents = {identity: read_source(identity, base_dir=base_dir) for identity in sections if identity.source != SELF}
    own = SourceSection(source=SELF)
    if own not in sections:
        return documents, []
    wanted = {
        split: sum(count for section, count in quota if section.source == SELF) for split, quota in quotas.items()
    }
    # One window of margin: joining and cutting documents may lose part of one.
    first = sum(wanted[split] for split in SPLITS)
    documents[own] = self_texts((first + 1) * window) if first else []
    if not wanted.get(FINISH):
        return documents, []
    last = sum(wanted[split] for split in _JUDGES) + wanted[FINISH]
    if last <= first:
        return documents, []
    # A longer text may be another one altogether, e.g. where a shipped sample no longer suffices.
    known = set(documents[own])
    return documents, [text for text in self_texts((last + 1) * window) if text not in known]


def _cut(text: _Text, *, tokenizer: PreTrainedTokenizerBase, window: int) -> None:
    """Give every split its windows of one text."""
    needed = sum(text.demand[split] for split in SPLITS)
    limit = needed * window * _READ_FACTOR
    windows = token_windows(tokenizer, text.documents, window=window, max_tokens=limit)
    if len(windows) < needed:
        raise _too_short(text, len(windows), needed, SPLITS, window)
    regions = region_rows(len(windows), [text.demand[split] for split in SPLITS])
    rows = dict(zip(SPLITS, regions, strict=True))
    for split in SPLITS:
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
