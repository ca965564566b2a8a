"""Every evaluation of a run, in ``history.sqlite``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from nas_llm.errors import RunError
from nas_llm.space import COST_NAMES, Cost, Evaluation, Genome, is_quality

_SCHEMA_VERSION = 4
# Older schemas that differ in some of these columns; they are read as they are, and brought up to date when written.
_OLDER = (2, 3)
_ADDED = {"latency": "REAL", "further": "TEXT"}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS evaluations (
    ordinal INTEGER PRIMARY KEY,
    generation INTEGER NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    genome BLOB NOT NULL,
    quality REAL NOT NULL,
    block_params INTEGER NOT NULL,
    params INTEGER NOT NULL,
    macs_per_token INTEGER NOT NULL,
    kv_cache_bytes INTEGER NOT NULL,
    inheriting_ratio REAL NOT NULL,
    latency REAL,
    seconds REAL NOT NULL,
    fidelity REAL NOT NULL,
    further TEXT
);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value NOT NULL);
"""
_COLUMNS = ("ordinal", "generation", "digest", "genome", "quality", *COST_NAMES, "seconds", "fidelity", "further")
_INSERT = f"INSERT INTO evaluations ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


class History:
    """The evaluations of one run; each is committed as it is recorded, and others may read meanwhile.

    Args:
        path: The sqlite file; created if missing, unless ``read_only``.
        objectives: The run's objectives in order, the quality objective among them; None = as stored.
        read_only: Open for reading; ``objectives`` is not needed.

    Raises:
        RunError: If the file is missing (``read_only``), no history, or of other objectives.
    """

    def __init__(self, path: Path, objectives: tuple[str, ...] | None = None, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise RunError(f"{path} does not exist; the run has evaluated nothing yet")
        try:
            self._database = sqlite3.connect(path, timeout=30.0)
            if read_only:
                self._database.execute("PRAGMA query_only = ON")
            else:
                self._create(objectives or ())
            self.objectives = tuple(str(self._meta("objectives")).split(","))
        except sqlite3.Error as error:
            raise RunError(f"{path} is not a readable history ({error}); start over with another directory") from error
        if objectives is not None and self.objectives != tuple(objectives):
            raise RunError(
                f"{path} was written for the objectives {', '.join(self.objectives)}, the problem asks for "
                f"{', '.join(objectives)}; start over with another directory"
            )

    def _create(self, objectives: tuple[str, ...]) -> None:
        # With a write-ahead log readers never block the search; after a power cut at most the last rows are lost.
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        with self._database:
            self._database.executescript(_SCHEMA)
            self._database.execute("INSERT OR IGNORE INTO meta VALUES ('schema', ?)", (_SCHEMA_VERSION,))
            self._database.execute("INSERT OR IGNORE INTO meta VALUES ('objectives', ?)", (",".join(objectives),))
        version = self._meta("schema")
        if version in _OLDER:
            with self._database:
                for column in self._lacking():
                    self._database.execute(f"ALTER TABLE evaluations ADD COLUMN {column} {_ADDED[column]}")
                self._database.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (_SCHEMA_VERSION,))
        elif version != _SCHEMA_VERSION:
            raise RunError(f"{self.path} has schema {version}, this version of nas-llm writes {_SCHEMA_VERSION}")

    def _lacking(self) -> list[str]:
        there = {row[1] for row in self._database.execute("PRAGMA table_info(evaluations)")}
        return [column for column in _ADDED if column not in there]

    def _meta(self, key: str) -> object:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise RunError(f"{self.path} is not a history of a search: it has no {key}")
        return row[0]

    @property
    def dense_quality(self) -> float | None:
        """The dense model's value of the quality objective, where it was recorded."""
        row = self._database.execute("SELECT value FROM meta WHERE key = 'dense_quality'").fetchone()
        return None if row is None else float(row[0])

    def record_dense_quality(self, value: float) -> None:
        """Remember the dense model's value of the quality objective."""
        with self._database:
            self._database.execute("INSERT OR REPLACE INTO meta VALUES ('dense_quality', ?)", (value,))

    def record(
        self,
        *,
        ordinal: int,
        generation: int,
        genome: Genome,
        quality: float,
        cost: Cost,
        seconds: float,
        fidelity: float = 1.0,
    ) -> Evaluation:
        """Commit one evaluation.

        Raises:
            RunError: If the ordinal or the genome is taken, or the file cannot be written.
        """
        costs = [getattr(cost, name) for name in COST_NAMES]
        further = json.dumps(dict(cost.further)) if cost.further else None
        values = (
            *(ordinal, generation, genome.digest(), genome.to_bytes(), quality),
            *(*costs, seconds, fidelity, further),
        )
        try:
            with self._database:
                self._database.execute(_INSERT, values)
        except sqlite3.IntegrityError as error:
            raise RunError(
                f"{self.path} already holds evaluation {ordinal} or genome {genome.digest()[:8]}; it belongs to "
                f"another problem or seed, start over with another directory"
            ) from error
        except sqlite3.Error as error:
            raise RunError(f"{self.path} cannot be written: {error}") from error
        return Evaluation(
            ordinal=ordinal,
            generation=generation,
            digest=genome.digest(),
            genome_bytes=genome.to_bytes(),
            objectives=self._objectives(quality, cost),
            cost=cost,
            seconds=seconds,
            fidelity=fidelity,
        )

    def rows(self, *, up_to: int | None = None) -> Iterator[Evaluation]:
        """All evaluations by ascending ordinal.

        Args:
            up_to: Last ordinal to yield; None = all.
        """
        lacking = self._lacking()
        columns = ", ".join("NULL" if name in lacking else name for name in _COLUMNS)
        query = f"SELECT {columns} FROM evaluations WHERE ordinal <= ? ORDER BY ordinal"
        limit = (1 << 62) if up_to is None else up_to
        for row in self._database.execute(query, (limit,)):
            ordinal, generation, digest, genome, quality, *costs, seconds, fidelity, further = row
            cost = Cost(**dict(zip(COST_NAMES, costs, strict=True)), further=self._further(further))
            yield Evaluation(
                ordinal=ordinal,
                generation=generation,
                digest=digest,
                genome_bytes=genome,
                objectives=self._objectives(quality, cost),
                cost=cost,
                seconds=seconds,
                fidelity=fidelity,
            )

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM evaluations").fetchone()[0])

    def _objectives(self, quality: float, cost: Cost) -> dict[str, float]:
        return {name: quality if is_quality(name) else cost.value(name) for name in self.objectives}

    def _further(self, text: str | None) -> dict[str, float]:
        try:
            return {} if text is None else {str(name): float(value) for name, value in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise RunError(f"{self.path} is damaged: {text!r} are no further costs; start a new run") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> History:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
