"""Numbers as a person reads them, on a terminal and in a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol


class Ends(Protocol):
    """What is shown of an interval."""

    @property
    def low(self) -> float:
        """Its lower end."""

    @property
    def high(self) -> float:
        """Its upper end."""


def count(value: float) -> str:
    """``134515008`` as ``134.52M``."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.2f}{suffix}"
    return f"{value:g}"


def perplexity(value: float | None) -> str:
    """Two digits behind the point below 1000; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 1000 else f"{value:.4g}"


def interval(ends: Ends | None) -> str:
    """`` [17.90, 19.85]``, to stand behind a perplexity; nothing where there is none."""
    return "" if ends is None else f" [{perplexity(ends.low)}, {perplexity(ends.high)}]"


def windows_of(count: int, available: int | None) -> str:
    """``64 windows``, ``the first 64 of 285 windows``, or ``the first 64 windows`` of nobody knows how many."""
    if available is None:
        return f"the first {count} windows"
    return f"{count} windows" if count == available else f"the first {count} of {available:,} windows"


def quantity(value: float, unit: str) -> str:
    """``1234.0`` and ``mJ`` as ``1.23k mJ``; a pure number has no unit."""
    return f"{count(value)} {unit}".rstrip()


def latency(seconds: float) -> str:
    """``0.0123`` seconds as ``12.3 ms``."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if seconds * factor >= 1.0:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def duration(seconds: float) -> str:
    """``75`` as ``1 min 15 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def alternatives(values: Iterable[float]) -> str:
    """``0.5 or 0.7``: what there is to choose from.

    Args:
        values: One or several numbers.
    """
    return " or ".join(f"{value:g}" for value in values)


def text_of(windows: Mapping[str, Any]) -> str:
    """Where a window set came from: ``wiki.txt + auto (prose, code), 16 windows of 512 tokens``."""
    kinds: dict[str, list[str]] = {}
    for source in windows.get("sources", ()):
        kinds.setdefault(str(source.get("source", "?")), []).extend([source["kind"]] if source.get("kind") else [])
    names = [f"{name} ({', '.join(found)})" if found else name for name, found in kinds.items()]
    size = f"{windows['windows']} windows of {windows['window']} tokens" if "windows" in windows else ""
    size = f"{windows['questions']} questions" if "questions" in windows else size
    return ", ".join(part for part in (" + ".join(names), size) if part)


def size(value: float) -> str:
    """``270123456`` bytes as ``270.1 MB``."""
    for limit, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= limit:
            return f"{value / limit:.1f} {suffix}"
    return f"{value:g} B"
