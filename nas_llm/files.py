"""Files and folders that appear whole or not at all, JSON that says what it should have held, and packaged files."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from safetensors import SafetensorError

from nas_llm.errors import ConfigError, NasLlmError, RunError

_FILE_MODE = 0o644
_FOLDER_MODE = 0o755


def write_atomic(
    path: Path,
    content: str | bytes | Callable[[BinaryIO], object],
    *,
    parents: bool = False,
    sync: bool = False,
    error: type[NasLlmError] = RunError,
    mend: str = "",
) -> None:
    """Replace a file whole or not at all; whoever reads it meanwhile sees the old one.

    A process that is killed in between leaves ``.NAME-*`` beside it, which nobody reads. A link stays: what it leads to
    is replaced. A device or a pipe is written to as it is.

    Args:
        path: The file.
        content: Text, bytes, or a function that writes to an open binary file.
        parents: Whether its folder is made where it is missing.
        sync: Whether to wait until the disk has it, so that a power cut does not lose it either.
        error: Class of what is raised.
        mend: What can be done if it cannot be written, for the message.

    Raises:
        NasLlmError: Of the class ``error``, if it cannot be written.
    """
    partial: Path | None = None
    with _disk_faults(path, error, mend):
        place = path.resolve()
        if parents:
            _make_folder(place.parent)
        if place.exists() and not (place.is_file() or place.is_dir()):
            with place.open("wb") as file:
                _fill(file, content)
            return
        try:
            with tempfile.NamedTemporaryFile("wb", dir=place.parent, prefix=f".{place.name}-", delete=False) as fresh:
                partial = Path(fresh.name)
                _fill(fresh, content)
                if sync:
                    fresh.flush()
                    os.fsync(fresh.fileno())
            partial.chmod(_FILE_MODE)
            partial.replace(place)
            if sync:
                _sync_folder(place.parent)
        finally:
            if partial is not None:
                partial.unlink(missing_ok=True)


def check_place(path: Path, *, error: type[NasLlmError] = RunError) -> None:
    """Refuse a file that :func:`write_atomic` could not write, before the work is done that should go into it.

    Args:
        path: The file; its folder need not be there.
        error: Class of what is raised.

    Raises:
        NasLlmError: Of the class ``error``, if there is a folder in its place, a file in that of its folder, or no
            permission.
    """
    if path.is_dir():
        raise error(f"cannot write {path}: it is a folder; name a file in it")
    if path.exists() and not path.is_file():
        # A device or a pipe is written to as it is.
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise error(f"cannot write {path}: {folder} is no folder; name another place")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise error(f"cannot write {path}: no permission to write in {folder}; name another place")


@contextmanager
def staged_folder(
    target: Path,
    *,
    existing: Literal["keep", "refuse", "replace"] = "refuse",
    prefix: str = "",
    error: type[NasLlmError] = RunError,
    mend: str = "",
) -> Iterator[Path]:
    """A fresh folder that becomes ``target`` when the block ends well, and is gone if it does not.

    It is filled within another folder beside the target, which a process that is killed leaves behind.

    Args:
        target: The folder to appear; its parents are made. Everybody may read what is in it.
        existing: What becomes of a target that is there when the block ends, be it an older one or one that another
            process made in the meantime.
        prefix: How the name of that other folder begins; default: a dot and the target's name.
        error: Class of what is raised.
        mend: What can be done if it cannot be written, for the message.

    Raises:
        NasLlmError: Of the class ``error``, if the disk does not take it, or if there is a target and it is refused.
    """
    work: Path | None = None
    try:
        with _disk_faults(target, error, mend):
            _make_folder(target.parent)
            work = Path(tempfile.mkdtemp(dir=target.parent, prefix=prefix or f".{target.name}-"))
            fresh = work / target.name
            fresh.mkdir()
            yield fresh
            _open_to_read(fresh)
            if os.path.lexists(target):
                if existing == "keep":
                    return
                if existing == "refuse":
                    raise FileExistsError(errno.EEXIST, "it exists")
                target.replace(work / "replaced")
            try:
                fresh.replace(target)
            except OSError:
                if existing == "replace":
                    with suppress(FileNotFoundError):
                        (work / "replaced").replace(target)
                # Made by another process since we looked.
                if existing != "keep" or not target.is_dir():
                    raise
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


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


def _fill(file: Any, content: str | bytes | Callable[[BinaryIO], object]) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)


@contextmanager
def _disk_faults(path: Path, error: type[NasLlmError], mend: str) -> Iterator[None]:
    """Make one clear line of what the system says."""
    try:
        try:
            yield
        except SafetensorError as fault:
            # It names the system's error in its message only.
            match = re.search(r"os error (\d+)", str(fault))
            number = int(match[1]) if match else errno.EIO
            raise OSError(number, os.strerror(number) if match else str(fault)) from fault
    except OSError as fault:
        raise error(f"cannot write {path}: {fault.strerror or fault}{f'; {mend}' if mend else ''}") from fault


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as fault:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from fault


def _open_to_read(folder: Path) -> None:
    """Some libraries write files for their own user alone."""
    folder.chmod(_FOLDER_MODE)
    for path in folder.rglob("*"):
        path.chmod(_FOLDER_MODE if path.is_dir() else _FILE_MODE)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
