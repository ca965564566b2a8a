"""Content hashes that say whether two models are the same, and stamps that say whether files changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from nas_llm.errors import ModelError

_WEIGHTS = (".safetensors", ".bin", ".gguf")


def file_revision(path: Path) -> str:
    """``sha256:`` and 32 hex digits of one file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}"


def directory_revision(path: Path) -> str:
    """``sha256:`` and 32 hex digits over the configuration and weight files of a model directory."""
    digest = hashlib.sha256()
    for file in _identifying(path):
        digest.update(f"{file.name}\0{file_revision(file)}\0".encode())
    return f"sha256:{digest.hexdigest()[:32]}"


class FileStamps:
    """Size and time of the files that make up a model directory, to notice when one is overwritten.

    Args:
        directory: Holds ``config.json`` and the weights.
    """

    def __init__(self, directory: Path) -> None:
        self._stamps = {file: _stamp(file) for file in _identifying(directory)}

    def check(self) -> None:
        """Refuse to go on with files that are no longer what they were.

        Raises:
            ModelError: If one was changed, replaced or removed.
        """
        changed = next((file for file, stamp in self._stamps.items() if _stamp(file) != stamp), None)
        if changed is not None:
            raise ModelError(
                f"{changed} was changed while it was in use, and what is computed from it would be of two models; "
                "leave the file alone and start again"
            )


def _identifying(directory: Path) -> list[Path]:
    return [file for file in sorted(directory.iterdir()) if file.name == "config.json" or file.suffix in _WEIGHTS]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
