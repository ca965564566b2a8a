"""Folders of the cache that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from nas_llm.errors import RunError


def make_once(target: Path, make: Callable[[Path], None], *, witness: str) -> None:
    """Fill a folder of the cache, unless it is there already.

    Args:
        target: The folder.
        make: Writes its files into another folder, which is then moved into place.
        witness: A file that is there when the folder is.

    Raises:
        RunError: If it cannot be written.
    """
    if (target / witness).is_file():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".calibrating-"))
        try:
            make(staging)
            try:
                os.replace(staging, target)
            except OSError:
                # Another process may have finished the same in the meantime.
                if not (target / witness).is_file():
                    raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise RunError(
            f"cannot keep the calibration in {target.parent}: {error}; free some space or set NAS_LLM_CACHE"
        ) from error
