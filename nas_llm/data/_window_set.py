"""A fixed set of token windows with its provenance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nas_llm.data._tokens import TokenArray
from nas_llm.errors import DataError


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowSet:
    """Token windows that something is computed on; immutable, free of any tensor library.

    Args:
        tokens: ``(n, T)`` int64 token ids, n windows of T tokens; copied and made read-only.
        name: What they are for, e.g. ``"calibration"``.
        sources: Where they came from, one plain-data mapping a source.

    Raises:
        DataError: If ``tokens`` is not a 2-d integer array with at least one window.
    """

    tokens: TokenArray
    name: str
    sources: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        given = np.asarray(self.tokens)
        if given.ndim != 2 or not np.issubdtype(given.dtype, np.integer) or 0 in given.shape:
            raise DataError(
                f"windows of {self.name!r} must be a non-empty 2-d integer array, got {given.dtype} {given.shape}"
            )
        tokens = np.array(given, dtype=np.int64, order="C", copy=True)
        tokens.flags.writeable = False
        object.__setattr__(self, "tokens", tokens)

    @property
    def num_tokens(self) -> int:
        """n x T."""
        return int(self.tokens.size)

    @cached_property
    def _digest(self) -> str:
        hasher = hashlib.blake2b(np.array(self.tokens.shape, dtype="<i8").tobytes(), digest_size=16)
        hasher.update(self.tokens.astype("<i8", copy=False).tobytes())
        return hasher.hexdigest()

    def digest(self) -> str:
        """32 hex digits that identify shape and tokens, whatever their name and provenance."""
        return self._digest

    @property
    def kinds(self) -> dict[str, range]:
        """Windows of each kind of text, as far as the sources say how many they have: names to places."""
        found: dict[str, range] = {}
        begin = 0
        for source in self.sources:
            end = begin + int(source.get("windows", 0))
            if end > begin:
                name = str(source.get("source", "text"))
                name = f"{name} ({source['kind']})" if source.get("kind") else Path(name).name
                number = 2
                base = name
                while name in found:
                    name, number = f"{base} {number}", number + 1
                found[name] = range(begin, end)
            begin = end
        return found

    def describe(self) -> dict[str, Any]:
        """Plain-data form, for JSON: what was measured on, without the tokens themselves."""
        windows, window = self.tokens.shape
        return {
            "name": self.name,
            "tokens": self.num_tokens,
            "window": window,
            "windows": windows,
            "digest": self.digest(),
            "sources": [dict(source) for source in self.sources],
        }
