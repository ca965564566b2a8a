"""Evaluations shared by runs: equal genomes under equal conditions are never priced twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from nas_llm.errors import RunError


class EvaluationCache:
    """A content-addressed store of quality values; any number of processes may read and write it at once.

    Args:
        path: The sqlite file; created with its folder if missing.
        identity: Everything but the genome that a value depends on: model revision, text, metric, arithmetic, ...

    Raises:
        RunError: If the file cannot be opened.
    """

    def __init__(self, path: Path, *, identity: str) -> None:
        self.path = path
        self.identity = identity
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS evaluations "
                "(identity TEXT, digest TEXT, value REAL NOT NULL, PRIMARY KEY (identity, digest)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise RunError(
                f"the evaluation cache {path} cannot be used ({error}); delete it or name another"
            ) from error

    def get(self, digests: Iterable[str]) -> dict[str, float]:
        """The known values of these genomes, by digest.

        Raises:
            RunError: If the file cannot be read.
        """
        query = "SELECT value FROM evaluations WHERE identity = ? AND digest = ?"
        try:
            found = {digest: self._database.execute(query, (self.identity, digest)).fetchone() for digest in digests}
        except sqlite3.Error as error:
            raise RunError(f"the evaluation cache {self.path} cannot be read: {error}") from error
        return {digest: float(row[0]) for digest, row in found.items() if row is not None}

    def put(self, digest: str, value: float) -> None:
        """Store a value; the first one stored for a genome stays.

        Raises:
            RunError: If the file cannot be written.
        """
        try:
            self._database.execute("INSERT OR IGNORE INTO evaluations VALUES (?, ?, ?)", (self.identity, digest, value))
        except sqlite3.Error as error:
            raise RunError(f"the evaluation cache {self.path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()
