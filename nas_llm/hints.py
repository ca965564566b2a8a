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


def did_you_mean(
    name: str,
    names: Iterable[str],
    cutoff: float = 0.5,
    *,
    most: int = 1,
    quote: str = '"',
    what: str = "",
    prefix: str = "",
    after: str = "",
) -> str:
    """``did you mean "x"?``, or nothing where no name is similar.

    Args:
        name: What was said.
        names: What could have been meant.
        cutoff: Least similarity, from 0 (anything) to 1 (the same).
        most: How many names are offered.
        quote: What stands around a name.
        what: What stands before the names, e.g. ``"the packaged "``.
        prefix: How each name goes on to the left, e.g. ``"search."``.
        after: What follows where there is such a name, e.g. a space.
    """
    found = difflib.get_close_matches(name, list(names), n=most, cutoff=cutoff)
    return f"{meant(*(prefix + near for near in found), quote=quote, what=what)}{after}" if found else ""


def meant(*names: str, quote: str = '"', what: str = "") -> str:
    """``did you mean "x" or "y"?`` of names that were found otherwise.

    Args:
        names: What was probably meant.
        quote: What stands around a name.
        what: What stands before the names.
    """
    return f"did you mean {what}{' or '.join(f'{quote}{name}{quote}' for name in names)}?"
