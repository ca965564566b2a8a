"""Optuna's journal file, with two additions: a torn line is mended, and many records are written at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

# Who holds the lock writes for milliseconds; a process that was killed while holding it delays others this long.
_LOCK_SECONDS = 10


class MendingJournal(JournalFileBackend):
    """A journal file that survives writers who were killed.

    A process that dies while it writes can leave half a line, after which Optuna's own backend cannot read anything
    that is appended. Such a half was never acknowledged, so the next writer cuts it off.

    Args:
        path: The file; created with its folder if missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._guard = JournalFileSymlinkLock(str(path), grace_period=_LOCK_SECONDS)
        self._pending: list[dict[str, Any]] | None = None
        super().__init__(str(path), lock_obj=self._guard)

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
