"""A directory that appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from nas_llm.errors import ExportError


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
    staging: Path | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
        yield staging
        # mkdtemp makes a private folder and safetensors private files; an export is meant to be read.
        staging.chmod(0o755)
        for weights in staging.glob("*.safetensors"):
            weights.chmod(0o644)
        if directory.exists():
            shutil.rmtree(directory)
        os.replace(staging, directory)
    except SafetensorError as error:
        cause = _as_os_error(error)
        raise ExportError(f"cannot write {directory}: {cause.strerror}") from cause
    except OSError as error:
        raise ExportError(f"cannot write {directory}: {error.strerror or error}") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _as_os_error(error: SafetensorError) -> OSError:
    """safetensors names the system's error in its message only."""
    match = re.search(r"os error (\d+)", str(error))
    number = int(match[1]) if match else errno.EIO
    return OSError(number, os.strerror(number) if match else str(error))
