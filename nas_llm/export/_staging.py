"""A directory that appears whole or not at all, where nothing is lost by it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_llm.errors import ExportError
from nas_llm.files import staged_folder
from nas_llm.models import PROVENANCE_FILE


def check_place(directory: Path, *, force: bool) -> None:
    """Refuse a place where something would be lost.

    Args:
        directory: Where an export is to appear.
        force: Whether an earlier export there may be replaced; what is no export never is.

    Raises:
        ExportError: If something is there that may not be replaced.
    """
    if not os.path.lexists(directory):
        return
    if not (directory / PROVENANCE_FILE).is_file() and not _is_empty(directory):
        raise ExportError(f"{directory} exists and is no export of nas-llm; name another place with --out")
    if not force:
        raise ExportError(f"{directory} exists; replace it with --force or export to another place with --out")


@contextmanager
def staged_directory(directory: Path, *, force: bool) -> Iterator[Path]:
    """Fill a temporary folder beside the target; it becomes the target when the body ends without an error.

    Args:
        directory: The target; its parents are created.
        force: Replace an earlier export.

    Yields:
        The temporary folder. If the body fails, nothing is left of it.

    Raises:
        ExportError: See :func:`check_place`; or if the target cannot be written.
    """
    check_place(directory, force=force)
    with staged_folder(directory, existing="replace" if force else "refuse", error=ExportError) as staging:
        yield staging


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and next(directory.iterdir(), None) is None
