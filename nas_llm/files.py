"""Files and folders that appear whole or not at all, JSON that says what it should have held, and packaged files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nas_llm.errors import ConfigError, NasLlmError, RunError

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


def write_atomic(
    path: Path,
    content: str | bytes | Callable[[BinaryIO], None],
    *,
    error: type[NasLlmError] = RunError,
    sync: bool = False,
) -> None:
    """Replace a file whole or not at all; whoever reads it meanwhile sees the old one.

    Args:
        path: The file; its folder must be there.
        content: Text, bytes, or a function that writes to an open binary file.
        error: Class of what is raised.
        sync: Whether to wait until the disk has it, so that a power cut does not lose it either.

    Raises:
        NasLlmError: Of the class ``error``, if it cannot be written.
    """
    partial: Path | None = None
    try:
        with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}-", delete=False) as file:
            partial = Path(file.name)
            if callable(content):
                content(file)  # type: ignore[arg-type]
            else:
                file.write(content.encode("utf-8") if isinstance(content, str) else content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.chmod(_FILE_MODE)
        partial.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError as fault:
        raise error(f"cannot write {path}: {fault.strerror or fault}") from fault
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextmanager
def staged_folder(target: Path, *, prefix: str = "") -> Iterator[Path]:
    """A fresh folder beside ``target`` that becomes ``target`` when the block ends well, and is gone if it does not.

    A target that another process has made in the meantime is kept.

    Args:
        target: The folder to appear; its parents are made.
        prefix: How the name of the fresh folder begins; default: a dot and the target's name.

    Raises:
        OSError: If the disk does not take it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix or f".{target.name}-"))
    try:
        yield staging
        # mkdtemp makes a private folder.
        staging.chmod(_FOLDER_MODE)
        try:
            os.replace(staging, target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_json_object(path: Path) -> dict[str, Any] | None:
    """The object of a JSON file; None where there is no such file, or it holds anything else.

    Args:
        path: The file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def packaged_folder(kind: str) -> Path:
    """Where definitions that come with the package lie: inside of it, or beside it in a source checkout.

    Args:
        kind: ``problems`` or ``studies``.

    Raises:
        ConfigError: If neither is there, i.e. the installation is damaged.
    """
    package = Path(__file__).parent
    for folder in (package / f"_{kind}", package.parent / kind):
        if folder.is_dir():
            return folder
    raise ConfigError(f"no packaged {kind} beside {package}; the installation is damaged, install nas-llm again")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
