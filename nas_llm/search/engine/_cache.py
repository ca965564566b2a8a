"""Evaluations shared by runs: equal genomes under equal conditions are never evaluated twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import cast

from nas_llm.errors import Interrupted, RunError
from nas_llm.search.engine._evaluator import Evaluator, OnResult, RacingEvaluator, comparable, unheard
from nas_llm.space import Genome


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


class CachedEvaluator:
    """An evaluator that looks into the cache first, and puts there what it had to compute.

    What does not compare (NaN) becomes infinity, whoever asks.

    Args:
        evaluator: Computes what is not known.
        cache: Where values are kept; None = nowhere.
        should_stop: Polled before and between genomes.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        cache: EvaluationCache | None,
        *,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._evaluator = evaluator
        self._cache = cache
        self._should_stop = should_stop

    def evaluate(
        self, genomes: Sequence[Genome], *, on_result: OnResult = unheard, bars: Sequence[float] | None = None
    ) -> list[float]:
        """Evaluate genomes.

        Args:
            genomes: What to evaluate; one that is named twice is computed once.
            on_result: Called as soon as a genome's value is known and kept: those of the cache first.
            bars: See :class:`RacingEvaluator`; an estimate of a genome that was given up is not kept.

        Returns:
            One value a genome, in the order given.

        Raises:
            Interrupted: If ``should_stop`` said so; what was computed by then is kept.
        """
        places: dict[str, int] = {}
        for place, genome in enumerate(genomes):
            places.setdefault(genome.digest(), place)
        known: dict[str, float] = {}

        def keep(digest: str, value: float, seconds: float, fidelity: float) -> None:
            known[digest] = comparable(value)
            on_result(places[digest], known[digest], seconds, fidelity)
            self._poll()

        if places:
            self._poll()
        for digest, value in ({} if self._cache is None else self._cache.get(places)).items():
            keep(digest, value, 0.0, 1.0)
        rest = [digest for digest in places if digest not in known]

        def computed(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
            if self._cache is not None and fidelity == 1.0:
                self._cache.put(rest[index], comparable(value))
            keep(rest[index], value, seconds, fidelity)

        missing = [genomes[places[digest]] for digest in rest]
        if missing and bars is None:
            self._evaluator.evaluate(missing, on_result=computed)
        elif missing and bars is not None:
            racing = cast(RacingEvaluator, self._evaluator)
            racing.evaluate(missing, on_result=computed, bars=[bars[places[digest]] for digest in rest])
        return [known[genome.digest()] for genome in genomes]

    def _poll(self) -> None:
        if self._should_stop():
            raise Interrupted
