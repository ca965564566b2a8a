"""Token ids of long texts, kept between commands: a tokenizer takes seconds for each megabyte."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas_llm.cache import cache_dir, keep_file
from nas_llm.errors import RunError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Ids = npt.NDArray[np.int64]

_LOG = logging.getLogger(__name__)

# Shorter texts are tokenised in about a second.
_LONG_CHARACTERS = 500_000


def kept_tokens(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    make: Callable[[], _Ids],
    **settings: int | bool | None,
) -> _Ids:
    """What ``make`` makes of some texts: from the cache folder if it was made before, and kept there if they are long.

    Args:
        tokenizer: What it tokenises with.
        texts: What it tokenises.
        make: Makes the ids.
        settings: All else that they depend on.

    Returns:
        ``(n,)`` token ids.
    """
    identity = _identity(tokenizer) if sum(map(len, texts)) >= _LONG_CHARACTERS else None
    if identity is None:
        return make()
    parts = {"tokenizer": identity, "texts": content_hash(texts), "settings": settings}
    key = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()
    path = cache_dir() / "tokens" / f"{key}.npy"
    found = _read(path)
    if found is None:
        found = make()
        small = found.astype(np.int32)
        try:
            keep_file(path, lambda file: np.save(file, small))
        except RunError as error:
            # Nothing is lost but time.
            _LOG.warning("token ids are not kept: %s", error)
    return found


def content_hash(texts: Sequence[str]) -> str:
    """32 hex digits that identify a list of documents."""
    hasher = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        hasher.update(len(encoded).to_bytes(8, "little") + encoded)
    return hasher.hexdigest()


def _identity(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Hash of all that ids depend on; None for a tokenizer that is code, and so cannot be hashed."""
    import tokenizers

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, tokenizers.Tokenizer):
        return None
    kind = type(tokenizer)
    splitting = getattr(tokenizer, "split_special_tokens", None)
    described = f"{tokenizers.__version__} {kind.__module__}.{kind.__qualname__} {splitting} {backend.to_str()}"
    return hashlib.blake2b(described.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _read(path: Path) -> _Ids | None:
    try:
        found: _Ids = np.load(path, allow_pickle=False).astype(np.int64)
    except (OSError, ValueError, EOFError):
        # The cache may be damaged at any time; what is in it can be made again.
        return None
    return found
