"""Where converted models, sampled text, calibration and evaluations are kept between runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

from nas_llm.errors import NasLlmError, RunError
from nas_llm.files import staged_folder, write_atomic

_MEND = "free some space or set NAS_LLM_CACHE to another folder"


def cache_dir() -> Path:
    """The cache folder: ``$NAS_LLM_CACHE``, else ``nas-llm`` in the user's cache folder. It may be deleted any time."""
    override = os.environ.get("NAS_LLM_CACHE")
    if override:
        return Path(override).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nas-llm"


def keep_file(
    path: Path,
    content: str | bytes | Callable[[BinaryIO], object],
    *,
    sync: bool = False,
    error: type[NasLlmError] = RunError,
) -> None:
    """Put a file into the cache, whole or not at all; see :func:`nas_llm.files.write_atomic`.

    Raises:
        NasLlmError: Of the class ``error``, if it cannot be written.
    """
    write_atomic(path, content, parents=True, sync=sync, error=error, mend=_MEND)


def keep_folder(
    target: Path, make: Callable[[Path], object], *, witness: str, error: type[NasLlmError] = RunError
) -> None:
    """Fill a folder of the cache, unless it is there already; it appears whole or not at all.

    Args:
        target: The folder.
        make: Writes its files into another folder, which is then moved into place.
        witness: A file that is there when the folder is whole.
        error: Class of what is raised.

    Raises:
        NasLlmError: Of the class ``error``, if it cannot be written.
    """
    if (target / witness).is_file():
        return
    existing: Literal["keep", "replace"] = "replace" if target.exists() else "keep"
    with staged_folder(target, existing=existing, error=error, mend=_MEND) as folder:
        make(folder)
