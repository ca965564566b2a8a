"""Content hashes that say whether two models are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

_WEIGHTS = (".safetensors", ".bin", ".gguf")


def file_revision(path: Path) -> str:
    """``sha256:`` and 32 hex digits of one file's content."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}"


def directory_revision(path: Path) -> str:
    """``sha256:`` and 32 hex digits over the configuration and weight files of a model directory."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.name == "config.json" or file.suffix in _WEIGHTS:
            digest.update(f"{file.name}\0{file_revision(file)}\0".encode())
    return f"sha256:{digest.hexdigest()[:32]}"
