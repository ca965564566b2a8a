"""Counts as a person types them."""

from __future__ import annotations

from typing import Literal

from nas_llm.errors import ConfigError
from nas_llm.sizes import size_in_bytes

_SUFFIXES = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "t": 1e12}


def parse_size(text: str | None, option: str) -> int | None:
    """``2GB``, ``500MB`` or ``2000000000`` as bytes.

    Raises:
        ConfigError: If it is none of these, or zero.
    """
    if text is None:
        return None
    size = size_in_bytes(text)
    if not size:
        raise ConfigError(f"{option} {text!r} is no size; write e.g. 2GB, 500MB or 2000000000")
    return size


def parse_count(text: str | None, option: str) -> float | None:
    """``100M``, ``1.5G``, ``2e8`` or ``134515008`` as a number.

    Raises:
        ConfigError: If it is none of these, or not positive.
    """
    if text is None:
        return None
    number, factor = text.strip(), 1.0
    if number[-1:].lower() in _SUFFIXES:
        number, factor = number[:-1], _SUFFIXES[number[-1].lower()]
    try:
        value = float(number) * factor
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise ConfigError(f"{option} {text!r} is not a positive number; write e.g. 100M, 1.5G or 134515008")
    return value


def parse_windows(text: str | None) -> int | Literal["all"] | None:
    """``64`` as a number, ``all`` as it is.

    Raises:
        ConfigError: If it is neither, or not positive.
    """
    if text is None:
        return None
    if text.strip() == "all":
        return "all"
    count = int(text) if text.strip().isdecimal() else 0
    if count < 1:
        raise ConfigError(f"--windows {text!r} is neither a positive number nor all; write e.g. 64")
    return count
