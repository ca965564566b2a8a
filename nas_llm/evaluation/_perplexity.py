"""The literature's perplexity: exp(mean token NLL) over non-overlapping windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.errors import DataError
from nas_llm.models import fast_float32

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
    length = windows.tokens.shape[1]
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is not None and length > positions:
        raise DataError(f"windows of {length} tokens are longer than the model's {positions} positions; use --window")
    ids = torch.from_numpy(windows.tokens.copy()).to(model.device)
    total = 0.0
    with torch.inference_mode(), fast_float32(model.device):
        for done, window in enumerate(ids, start=1):
            logits = model(window[None], use_cache=False).logits[0, :-1]
            for chunk, wanted in zip(logits.split(_CHUNK_TOKENS), window[1:].split(_CHUNK_TOKENS), strict=True):
                total += float(functional.cross_entropy(chunk.float(), wanted, reduction="sum"))
            on_window(done)
    mean = total / (ids.shape[0] * (length - 1))
    return math.exp(min(mean, 80.0)) if math.isfinite(mean) else math.exp(80.0)
