"""Perplexity of one model on one text, with error bars."""

from __future__ import annotations

from typing import Literal

from transformers import PreTrainedTokenizerBase

from nas_llm.data import ReportingText, WindowSet, perplexity_windows
from nas_llm.evaluation import TextScore, window_losses
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.statistics import perplexity_interval
from nas_llm.workflow.evaluate._subjects import Loaded

WindowCount = int | Literal["all"] | None


def score_text(
    loaded: Loaded, text: ReportingText, *, window: int, windows: WindowCount, on_event: EventHandler
) -> TextScore:
    """Cut a text into a model's windows and measure it on them.

    Args:
        loaded: The model.
        text: The text.
        window: Tokens of a window.
        windows: Windows from the beginning; ``"all"``, or None for as many as the text says.
        on_event: Told what happens.

    Raises:
        DataError: If the text is shorter than a window, or a window longer than the model's positions.
    """
    found = text_windows(loaded.tokenizer, text, window=window, windows=windows)
    return score_windows(loaded, found, text=text.name, available=found.sources[0]["available"], on_event=on_event)


def text_windows(
    tokenizer: PreTrainedTokenizerBase, text: ReportingText, *, window: int, windows: WindowCount
) -> WindowSet:
    """Windows of a text in a model's tokens; their source says under ``available`` how many there are in all.

    Args:
        tokenizer: The model's.
        text: The text.
        window: Tokens of a window.
        windows: Windows from the beginning; ``"all"``, or None for as many as the text says.

    Raises:
        DataError: If the text is shorter than a window.
    """
    return perplexity_windows(
        text.documents,
        tokenizer=tokenizer,
        window=window,
        max_windows=None if windows == "all" else windows or text.windows,
        name="evaluation",
        special_tokens=True,
        source=text.name,
    )


def score_windows(
    loaded: Loaded, windows: WindowSet, *, text: str, available: int | None, on_event: EventHandler
) -> TextScore:
    """Measure a model on windows.

    Args:
        loaded: The model.
        windows: The windows.
        text: What they are of.
        available: Windows in all of it, if that is known.
        on_event: Told what happens.

    Raises:
        DataError: If a window is longer than the model's positions.
    """
    count, length = windows.tokens.shape
    stage = f"evaluate {loaded.name}"
    on_event(StageStarted(stage, f"{text}, {count} windows of {length} tokens", count))
    losses = window_losses(loaded.model, windows, on_window=lambda done: on_event(StageAdvanced(stage, done)))
    on_event(StageFinished(stage))
    return TextScore(
        text=text,
        perplexity=losses.perplexity,
        interval=perplexity_interval(losses),
        window=length,
        windows=count,
        available=available,
        tokens=windows.num_tokens,
        digest=windows.digest(),
        losses=losses,
    )
