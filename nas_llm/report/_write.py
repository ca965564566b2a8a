"""Pages on disk."""

from __future__ import annotations

from pathlib import Path

from nas_llm.errors import RunError


def write_page(path: Path, page: str) -> None:
    """Write a page whole; an earlier one is replaced.

    Raises:
        RunError: If it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(page, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
