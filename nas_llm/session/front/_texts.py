"""Perplexities of genomes kind by kind, on text that no candidate has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_llm.data import WindowSet
from nas_llm.events import EventHandler, StageFinished, StageStarted
from nas_llm.session._prepared import Prepared
from nas_llm.session.front._counter import Counter
from nas_llm.space import Genome
from nas_llm.statistics import WindowLosses


@dataclass(frozen=True)
class TextScore:
    """What one genome scores.

    Attributes:
        held_out: Perplexity of all held-out windows together.
        kinds: Perplexity of every kind of held-out text, then of every kind of off-text.
    """

    held_out: float
    kinds: Mapping[str, float]


def score_texts(prepared: Prepared, genomes: Sequence[Genome], subject: str, on_event: EventHandler) -> list[TextScore]:
    """Score genomes on the held-out and the off-text windows.

    Args:
        prepared: The problem.
        genomes: The genomes.
        subject: What they are, for a person.
        on_event: Called with every event.
    """
    splits = prepared.splits
    held_out = _losses(prepared, genomes, splits.held_out, subject, on_event)
    kinds = [losses.perplexities(splits.held_out.kinds) for losses in held_out]
    if splits.off_text is not None:
        off = _losses(prepared, genomes, splits.off_text, subject, on_event)
        for found, losses in zip(kinds, off, strict=True):
            found.update(losses.perplexities(splits.off_text.kinds))
    return [TextScore(losses.perplexity, found) for losses, found in zip(held_out, kinds, strict=True)]


def _losses(
    prepared: Prepared, genomes: Sequence[Genome], windows: WindowSet, subject: str, on_event: EventHandler
) -> list[WindowLosses]:
    label = windows.name.replace("_", "-")
    on_event(StageStarted("front", f"{subject} on {windows.num_tokens:,} {label} tokens", len(genomes)))
    found = prepared.evaluator(windows, metric="perplexity").window_losses(genomes, on_done=Counter("front", on_event))
    on_event(StageFinished("front", f"{label} perplexity"))
    tokens = (windows.tokens.shape[1] - 1,) * len(windows.tokens)
    return [WindowLosses(nll=tuple((row * tokens[0]).tolist()), tokens=tokens) for row in found]
