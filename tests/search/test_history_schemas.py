"""Histories of earlier versions: read as they are, brought up to date when written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from synthetic_search import architecture

from nas_llm.errors import RunError
from nas_llm.search import History
from nas_llm.space import Cost, CostModel, Genome

OBJECTIVES = ("perplexity", "kv_cache_bytes")
# As those versions wrote them.
TABLES = {
    2: """CREATE TABLE evaluations (ordinal INTEGER PRIMARY KEY, generation INTEGER NOT NULL, digest TEXT NOT NULL
        UNIQUE, genome BLOB NOT NULL, quality REAL NOT NULL, block_params INTEGER NOT NULL, params INTEGER NOT NULL,
        macs_per_token INTEGER NOT NULL, kv_cache_bytes INTEGER NOT NULL, inheriting_ratio REAL NOT NULL, seconds REAL
        NOT NULL, fidelity REAL NOT NULL)""",
    3: """CREATE TABLE evaluations (ordinal INTEGER PRIMARY KEY, generation INTEGER NOT NULL, digest TEXT NOT NULL
        UNIQUE, genome BLOB NOT NULL, quality REAL NOT NULL, block_params INTEGER NOT NULL, params INTEGER NOT NULL,
        macs_per_token INTEGER NOT NULL, kv_cache_bytes INTEGER NOT NULL, inheriting_ratio REAL NOT NULL, latency REAL,
        seconds REAL NOT NULL, fidelity REAL NOT NULL)""",
}
MODEL = CostModel(architecture(), sequence_length=16)


def genome(number: int) -> Genome:
    rng = np.random.default_rng(number)
    return Genome(rng.random((6, 3)) < 0.5, rng.random((6, 64)) < 0.5)


def old_history(path: Path, schema: int, latency: float | None) -> Cost:
    """A history of one evaluation; its cost."""
    subnet = genome(1)
    cost = MODEL(subnet)
    timed = [] if schema == 2 else [latency]
    counts = (cost.block_params, cost.params, cost.macs_per_token, cost.kv_cache_bytes, cost.inheriting_ratio)
    values = (1, 1, subnet.digest(), subnet.to_bytes(), 5.5, *counts, *timed, 0.25, 1.0)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(TABLES[schema])
        database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL)")
        meta = [("schema", schema), ("objectives", ",".join(OBJECTIVES)), ("dense_quality", 3.5)]
        database.executemany("INSERT INTO meta VALUES (?, ?)", meta)
        database.execute(f"INSERT INTO evaluations VALUES ({', '.join('?' * len(values))})", values)
    database.close()
    return Cost(*counts, None if schema == 2 else latency)


@pytest.mark.parametrize(("schema", "latency"), [(2, None), (3, None), (3, 0.125)])
def test_earlier_schemas_are_read_and_brought_up_to_date(tmp_path: Path, schema: int, latency: float | None) -> None:
    path = tmp_path / "h.sqlite"
    cost = old_history(path, schema, latency)
    before = path.read_bytes()
    with History(path, read_only=True) as history:
        (row,) = history.rows()
        assert (row.cost, row.genome, row.seconds, row.fidelity) == (cost, genome(1), 0.25, 1.0)
        assert row.objectives == {"perplexity": 5.5, "kv_cache_bytes": cost.kv_cache_bytes}
        assert history.dense_quality == 3.5
    assert path.read_bytes() == before
    for _ in range(2):
        with History(path, OBJECTIVES) as history:
            assert [row.cost for row in history.rows()] == [cost]
    with History(path, OBJECTIVES) as history:
        history.record(ordinal=2, generation=1, genome=genome(2), quality=6.0, cost=MODEL(genome(2)), seconds=0.5)
        assert [row.cost for row in history.rows()] == [cost, MODEL(genome(2))]
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone() == (4,)
        assert database.execute("SELECT further FROM evaluations").fetchall() == [(None,), (None,)]
    database.close()


def test_further_costs_come_back_exactly(tmp_path: Path) -> None:
    path, cost = tmp_path / "h.sqlite", Cost(1, 2, 3, 4, 0.5, further={"heat": 0.1 + 0.2, "noise": 1e-300})
    with History(path, ("perplexity", "heat")) as history:
        told = history.record(ordinal=1, generation=1, genome=genome(1), quality=5.0, cost=cost, seconds=0.0)
    with History(path, read_only=True) as history:
        (row,) = history.rows()
    assert row == told
    assert (row.cost, row.objectives) == (cost, {"perplexity": 5.0, "heat": 0.1 + 0.2})


@pytest.mark.parametrize("text", ["no json", "[1]", '{"heat": "hot"}', "5"])
def test_damaged_further_costs_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "h.sqlite"
    with History(path, ("perplexity", "heat")) as history:
        cost = Cost(1, 2, 3, 4, 0.5, further={"heat": 2.0})
        history.record(ordinal=1, generation=1, genome=genome(1), quality=5.0, cost=cost, seconds=0.0)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE evaluations SET further = ?", (text,))
    database.close()
    with History(path, read_only=True) as history, pytest.raises(RunError, match="are no further costs"):
        list(history.rows())
