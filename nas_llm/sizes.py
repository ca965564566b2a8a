"""Sizes in bytes as a person writes them."""

from __future__ import annotations

import re


def size_in_bytes(text: str) -> int:
    """``5GB``, ``200 MB``, ``1.5GiB`` or ``100000`` as bytes; 0 where the text is no size.

    Args:
        text: What was written.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMGT])(i?)B?|B)?", text.strip(), flags=re.IGNORECASE)
    if match is None:
        return 0
    base = 1024 if match[3] else 1000
    return int(float(match[1]) * base ** " KMGT".index((match[2] or " ").upper()))
