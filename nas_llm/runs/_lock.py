"""One search at a time in a run directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import ClassVar

from nas_llm.errors import RunError


class RunLock:
    """An exclusive lock on ``checkpoint/lock`` of a run directory, for use in a ``with`` statement.

    The system gives the lock back when its process dies in whatever way, so a dead run never blocks a resumption.
    Child processes do not inherit it.

    Args:
        directory: The run directory.
    """

    # POSIX locks do not exclude their own process, so this process keeps track of what it holds.
    _held: ClassVar[set[Path]] = set()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory.resolve() / "checkpoint" / "lock"
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        """Take the lock.

        Raises:
            RunError: If a live process holds it, or the directory cannot be written.
        """
        if self._path in self._held:
            raise RunError(f"run directory {self.directory} is in use by this process ({os.getpid()})")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(f"run directory {self.directory} cannot be written: {error.strerror}") from error
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise RunError(
                f"run directory {self.directory} is in use by process {holder}; wait for it or name another directory"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        self._held.add(self._path)
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._descriptor is not None
        self._held.discard(self._path)
        os.close(self._descriptor)
        self._descriptor = None
