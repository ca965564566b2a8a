"""The literature's perplexity: exp(mean token NLL) over non-overlapping windows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.errors import DataError
from nas_llm.models import fast_float32
from nas_llm.statistics import WindowLosses

# Tokens whose log-probabilities are made together; with a large vocabulary they are most of what a window takes.
_CHUNK_TOKENS = 256


def model_perplexity(
    model: PreTrainedModel, windows: WindowSet, *, on_window: Callable[[int], None] = lambda done: None
) -> float:
    """Perplexity of any transformers causal LM, one window at a time.

    The first token of a window is given, all others are predicted; the loss is float32.

    Args:
        model: A causal LM in evaluation mode; runs on its own device in its own dtype.
        windows: The text.
        on_window: Called with the number of windows that are done.

    Raises:
        DataError: If a window is longer than the model's positions.
    """
    return window_losses(model, windows, on_window=on_window).perplexity


def window_losses(
    model: PreTrainedModel, windows: WindowSet, *, on_window: Callable[[int], None] = lambda done: None
) -> WindowLosses:
    """The summed loss of each window, of which :func:`model_perplexity` is the whole.

    Args:
        model: A causal LM in evaluation mode; runs on its own device in its own dtype.
        windows: The text.
        on_window: Called with the number of windows that are done.

    Raises:
        DataError: If a window is longer than the model's positions.
    """
    length = windows.tokens.shape[1]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise DataError(f"windows of {length} tokens are longer than the model's {positions} positions; use --window")
    ids = torch.from_numpy(windows.tokens.copy()).to(model.device)
    nll = []
    with torch.inference_mode(), fast_float32(model.device):
        for done, window in enumerate(ids, start=1):
            logits, total = model(window[None], use_cache=False).logits[0, :-1], 0.0
            for chunk, wanted in zip(logits.split(_CHUNK_TOKENS), window[1:].split(_CHUNK_TOKENS), strict=True):
                total += float(functional.cross_entropy(chunk.float(), wanted, reduction="sum"))
            nll.append(total)
            on_window(done)
    return WindowLosses(nll=tuple(nll), tokens=(length - 1,) * len(nll))
