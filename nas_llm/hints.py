"""The nearest valid name, for messages about unknown ones: "did you mean ...?" is worked out here alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The most similar of some names, or None when none is similar.

    Args:
        name: What was said.
        names: What could have been meant.
        cutoff: Least similarity, from 0 (anything) to 1 (the same).
    """
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def did_you_mean(name: str, names: Iterable[str], cutoff: float = 0.5, *, quote: str = '"', most: int = 1) -> str:
    """``did you mean "x"?``, or nothing where no name is similar.

    Args:
        name: What was said.
        names: What could have been meant.
        cutoff: Least similarity, from 0 (anything) to 1 (the same).
        quote: What stands around a name.
        most: How many names are offered.
    """
    found = difflib.get_close_matches(name, list(names), n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(f'{quote}{near}{quote}' for near in found)}?" if found else ""
