"""Optuna's journal file, with three additions: a lock that outlives nobody, mended lines, many records at once."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from nas_llm.studies._optuna import LOCK_SUFFIX

# Who holds the lock writes for milliseconds; a process that was killed while holding it delays others this long.
_LOCK_SECONDS = 10
_LONGEST_PAUSE = 0.5


class JournalLock(JournalFileSymlinkLock):
    """Optuna's lock of a journal, a symbolic link beside it, that a killed process holds for seconds at most.

    Optuna asks for the time of what a link points to, and tries again at once, for ever, where that is nothing: its
    links hold the journal's path as it was given, which from their own folder leads nowhere when it was relative, or
    when the folder has moved. Here links hold the name of the file alone, and their own time is asked for.

    Programs that use Optuna's own lock are kept out, and keep out, as before.

    Args:
        path: The journal, from the root.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), grace_period=_LOCK_SECONDS)
        self._journal = path
        self._link = path.with_name(f"{path.name}{LOCK_SUFFIX}")
        self._mine: tuple[int, ...] | None = None

    def acquire(self) -> bool:
        """Take the lock, when its holder gives it back or has held it too long to be alive."""
        seen, since, pause = None, time.monotonic(), 0.001
        while True:
            with suppress(FileExistsError):
                os.symlink(self._journal.name, self._link)
                self._mine = self._holder()
                return True
            holder = self._holder()
            if holder != seen:
                seen, since = holder, time.monotonic()
            elif holder is not None and time.monotonic() - since > _LOCK_SECONDS:
                self._take_away(holder)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def release(self) -> None:
        """Give the lock back; one that was taken away meanwhile is somebody else's."""
        if self._mine is not None and self._holder() == self._mine:
            self._link.unlink(missing_ok=True)
        self._mine = None

    def _holder(self) -> tuple[int, ...] | None:
        """What tells one link from the next of the same name; None where there is none."""
        try:
            found = self._link.lstat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def _take_away(self, holder: tuple[int, ...]) -> None:
        """Remove a dead process's link: of several who wait for it one, so that nobody's new one is removed."""
        with self._journal.open("ab") as file:
            # Some network file systems lack this lock.
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
            if self._holder() == holder:
                self._link.unlink(missing_ok=True)


class MendingJournal(JournalFileBackend):
    """A journal file that survives writers who were killed.

    A process that dies while it writes can leave half a line, after which Optuna's own backend cannot read anything
    that is appended. Such a half was never acknowledged, so the next writer cuts it off.

    Args:
        path: The file; created with its folder if missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._guard = JournalLock(self._path)
        self._pending: list[dict[str, Any]] | None = None
        super().__init__(str(self._path), lock_obj=self._guard)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, or keep them for the end of a batch."""
        if self._pending is not None:
            self._pending += logs
            return
        self._mend()
        super().append_logs(logs)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """While entered, records are gathered, and written together at the end; only for records that nobody reads."""
        self._pending = []
        try:
            yield
        finally:
            gathered, self._pending = self._pending, None
            if gathered:
                self.append_logs(gathered)

    def _mend(self) -> None:
        if self._is_whole():
            return
        self._guard.acquire()
        try:
            if not self._is_whole():
                data = self._path.read_bytes()
                os.truncate(self._path, data.rfind(b"\n") + 1)
        finally:
            self._guard.release()

    def _is_whole(self) -> bool:
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return True
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"
