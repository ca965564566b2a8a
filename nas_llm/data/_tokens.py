"""Token ids out of texts, without special tokens and without length warnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas_llm.data._token_cache import kept_tokens
from nas_llm.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenArray = npt.NDArray[np.int64]

END_OF_TEXT = "<|endoftext|>"
_DOCUMENTS_AT_ONCE = 256


def end_of_text_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that stands between documents: ``<|endoftext|>`` where the vocabulary has it, else eos.

    Chat models often declare another eos (the end of a turn); pretraining separated documents with this one.
    """
    token = tokenizer.get_vocab().get(END_OF_TEXT, tokenizer.eos_token_id)
    return None if token is None else int(token)


def token_stream(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int | None = None,
    special_tokens: bool = False,
) -> TokenArray:
    """All texts as one row of tokens.

    A single text is tokenised as a whole, so that windows of it equal those of the literature; several are joined by
    the end-of-text token, if there is one. Ids of long texts are kept in the cache folder.

    Args:
        tokenizer: Tokenizer of the dense model.
        texts: Documents.
        max_tokens: Documents after this many tokens are not read; documents are never cut.
        special_tokens: Whether a single text gets the special tokens that the tokenizer adds by itself.

    Returns:
        ``(n,)`` token ids.
    """
    special = special_tokens and len(texts) == 1
    separator = end_of_text_id(tokenizer) if len(texts) > 1 else None

    def make() -> TokenArray:
        return _joined(tokenizer, texts, max_tokens=max_tokens, special=special, separator=separator)

    # One text is read whole, however few tokens are wanted, unless none are.
    most = None if len(texts) == 1 and max_tokens else max_tokens
    return kept_tokens(tokenizer, texts, make, max_tokens=most, special=special, separator=separator)


def _joined(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_tokens: int | None,
    special: bool,
    separator: int | None,
) -> TokenArray:
    parts: list[TokenArray] = []
    count = 0
    for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
        chunk = list(texts[start : start + _DOCUMENTS_AT_ONCE])
        for ids in tokenizer(chunk, add_special_tokens=special, verbose=False)["input_ids"]:
            if max_tokens is not None and count >= max_tokens:
                break
            if parts and separator is not None:
                parts.append(np.array([separator], dtype=np.int64))
            parts.append(np.asarray(ids, dtype=np.int64))
            count += len(ids) + (separator is not None)
        if max_tokens is not None and count >= max_tokens:
            break
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def token_windows(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    window: int,
    max_tokens: int | None = None,
    special_tokens: bool = False,
) -> TokenArray:
    """Non-overlapping windows of the joined texts; the tail that fills no window is dropped.

    Args:
        tokenizer: Tokenizer of the dense model.
        texts: Documents, see :func:`token_stream`.
        window: T, tokens of one window.
        max_tokens: As in :func:`token_stream`.
        special_tokens: As in :func:`token_stream`.

    Returns:
        ``(n, T)`` token ids; n = 0 where the text is shorter than a window.

    Raises:
        DataError: If ``window`` is not positive.
    """
    if window < 1:
        raise DataError(f"window must be positive, got {window}")
    stream = token_stream(tokenizer, texts, max_tokens=max_tokens, special_tokens=special_tokens)
    rows = len(stream) // window
    return stream[: rows * window].reshape(rows, window)
