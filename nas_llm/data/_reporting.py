"""Windows in the protocol of the literature, for numbers that are reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nas_llm.data._folders import read_texts
from nas_llm.data._token_cache import content_hash
from nas_llm.data._tokens import token_windows
from nas_llm.data._window_set import WindowSet
from nas_llm.errors import DataError
from nas_llm.settings import SourceDefaults

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def perplexity_windows(
    path_or_texts: str | Path | Sequence[str],
    *,
    tokenizer: PreTrainedTokenizerBase,
    window: int,
    max_windows: int | None = None,
    name: str = "report",
    column: str = SourceDefaults.column,
    special_tokens: bool = False,
    source: str = "texts",
) -> WindowSet:
    """The first non-overlapping windows of a text, tokenised as a whole, as the literature reports perplexity.

    Args:
        path_or_texts: A file that :func:`read_texts` knows, or documents.
        tokenizer: Tokenizer of the dense model.
        window: T, tokens of one window.
        max_windows: Windows taken at most; None = all of them.
        name: Name of the window set.
        column: Text column of a jsonl or parquet file.
        special_tokens: Whether a single text gets the special tokens that the tokenizer adds by itself, once.
        source: What documents that were given as such are called.

    Raises:
        DataError: If the text cannot be read, is shorter than one window, or ``max_windows`` is not positive.
    """
    if max_windows is not None and max_windows < 1:
        raise DataError(f"max_windows must be positive, got {max_windows}; leave it out to take all windows")
    if isinstance(path_or_texts, str | Path):
        texts, source = read_texts(path_or_texts, column=column), str(path_or_texts)
    else:
        texts = list(path_or_texts)
    limit = None if max_windows is None else max_windows * window
    windows = token_windows(tokenizer, texts, window=window, max_tokens=limit, special_tokens=special_tokens)
    if not len(windows):
        raise DataError(f"{source} is shorter than one window of {window} tokens; give a longer text")
    taken = windows[:max_windows]
    # Of several documents those behind the last window are not tokenised, and how much they hold is not known.
    whole = max_windows is None or len(texts) == 1 or len(windows) < max_windows
    provenance = {
        "source": source,
        "content": content_hash(texts),
        "windows": len(taken),
        "available": len(windows) if whole else None,
    }
    return WindowSet(tokens=taken, name=name, sources=(provenance,))
