"""A directory that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_llm.errors import ExportError
from nas_llm.files import staged_folder


@contextmanager
def staged_directory(directory: Path, *, force: bool) -> Iterator[Path]:
    """Fill a temporary folder beside the target; it becomes the target when the body ends without an error.

    Args:
        directory: The target; its parents are created.
        force: Replace a target that exists.

    Yields:
        The temporary folder. If the body fails, nothing is left of it.

    Raises:
        ExportError: If the target exists and ``force`` is not given, or it cannot be written.
    """
    if directory.exists() and not force:
        raise ExportError(f"{directory} exists; replace it with --force or export to another place with --out")
    with staged_folder(directory, existing="replace" if force else "refuse", error=ExportError) as staging:
        yield staging
