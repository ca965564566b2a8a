"""Perplexities of genomes kind by kind, on text that no candidate has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nas_llm.data import WindowSet
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.session._prepared import Prepared
from nas_llm.space import Genome


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
    kinds = [
        {name: _perplexity(row[list(places)]) for name, places in splits.held_out.kinds.items()} for row in held_out
    ]
    if splits.off_text is not None:
        off = _losses(prepared, genomes, splits.off_text, subject, on_event)
        for found, row in zip(kinds, off, strict=True):
            found.update({name: _perplexity(row[list(places)]) for name, places in splits.off_text.kinds.items()})
    return [TextScore(_perplexity(row), found) for row, found in zip(held_out, kinds, strict=True)]


def _losses(
    prepared: Prepared, genomes: Sequence[Genome], windows: WindowSet, subject: str, on_event: EventHandler
) -> np.ndarray:
    label = windows.name.replace("_", "-")
    on_event(StageStarted("front", f"{subject} on {windows.num_tokens:,} {label} tokens", len(genomes)))
    done = 0

    def on_done() -> None:
        nonlocal done
        done += 1
        on_event(StageAdvanced("front", done))

    losses = prepared.evaluator(windows, metric="perplexity").window_losses(genomes, on_done=on_done)
    on_event(StageFinished("front", f"{label} perplexity"))
    return losses


def _perplexity(losses: np.ndarray) -> float:
    # A subnet that is broken beyond float range is bad, not an error.
    mean = float(losses.mean())
    return float(np.exp(min(mean, 80.0))) if np.isfinite(mean) else float(np.exp(80.0))
