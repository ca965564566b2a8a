"""Models and fronts beside the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from nas_llm import display
from nas_llm.cli.terminal._tables import plain_table

if TYPE_CHECKING:
    from nas_llm.statistics import PairedRatio, Verdict
    from nas_llm.workflow import Comparison

_WORDS: dict[Verdict, str] = {
    "better": "better",
    "worse": "worse",
    "no difference": "no difference that this text shows",
    "not comparable": "a loss is not a number",
}
_TASK_WORDS: dict[Verdict, str] = _WORDS | {
    "no difference": "no difference that these documents show",
    "not comparable": "too few documents",
}


def comparison_table(found: Comparison) -> Table:
    """One row a model, in blocks of what is compared with each other; of fronts at last their means over all blocks."""
    targets = any(group.target is not None for group in found.groups)
    table = plain_table("ratio at most" if targets else "model")
    if targets:
        table.add_column("model", justify="left", overflow="fold")
    for name in ("ratio", "params", "perplexity", "over the first"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", justify="left", overflow="fold")
    for group in found.groups:
        for place, model in enumerate(group.models):
            head = [] if group.target is None else [f"{group.target:.4g}" if place == 0 else ""]
            table.add_row(
                *head,
                escape(model.name),
                "-" if model.inheriting_ratio is None else f"{model.inheriting_ratio:.4f}",
                display.count(model.params),
                escape(f"{model.score.perplexity:.3f}{display.interval(model.score.interval)}"),
                *_against(model.paired),
            )
        table.add_section()
    for place, front in enumerate(found.fronts if len(found.groups) > 1 else ()):
        perplexity = escape(f"{front.perplexity:.3f}{display.interval(front.interval)}")
        table.add_row(
            "all, mean" if place == 0 else "", escape(front.name), "", "", perplexity, *_against(front.paired)
        )
    return table


def task_table(found: Comparison) -> Table:
    """One row a task of each model beside the first of its block."""
    table = plain_table("model", "task", "metric", "first", "score", "difference", "documents that differ")
    table.add_column("verdict", justify="left", overflow="fold")
    for group in found.groups:
        for model in group.models:
            for pair in model.on_tasks:
                factor, ends = 100.0 if pair.share else 1.0, pair.paired.interval
                shown = "" if ends is None else f" [{factor * ends.low:+.2f}, {factor * ends.high:+.2f}]"
                table.add_row(
                    escape(model.name),
                    escape(pair.task),
                    escape(pair.metric),
                    *(f"{factor * value:.2f}" for value in (pair.first, pair.value)),
                    escape(f"{factor * pair.paired.difference:+.2f}{shown}"),
                    f"{pair.paired.differing:,}",
                    _TASK_WORDS[pair.paired.verdict],
                )
        table.add_section()
    return table


def comparison_notes(found: Comparison) -> list[str]:
    """What was measured on and how it was compared, a line each."""
    intervals = "[low, high]: 95 % intervals by resampling windows, of ratios the same windows for both models"
    part, spread = (f" of {found.available:,}", ", evenly spread") if found.windows < found.available else ("", "")
    notes = [
        f"text: {found.text} ({found.digest[:12]}), {found.windows}{part} windows of {found.window} tokens{spread}",
        f"{intervals}; better or worse: the interval does not hold 1",
    ]
    if found.fronts:
        notes.append("of each run the best point, by its held-out perplexity, at or below each inheriting ratio")
    return notes


def _against(paired: PairedRatio | None) -> tuple[str, str]:
    if paired is None:
        return "", ""
    ends = paired.interval
    shown = "" if ends is None else f" [{ends.low:.4f}, {ends.high:.4f}]"
    return escape(f"{paired.ratio:.4f}{shown}"), _WORDS[paired.verdict]
