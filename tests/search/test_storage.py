from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic_search import architecture

from nas_llm.errors import RunError
from nas_llm.events import Event, Notice
from nas_llm.search import CheckpointStore, EvaluationCache, History, RunLock, SearchState
from nas_llm.space import CostModel, Genome

OBJECTIVES = ("perplexity", "macs_per_token")


def genome(number: int) -> Genome:
    rng = np.random.default_rng(number)
    return Genome(rng.random((6, 3)) < 0.5, rng.random((6, 64)) < 0.5)


def record(history: History, ordinal: int, number: int, quality: float = 5.0) -> None:
    subnet = genome(number)
    cost = CostModel(architecture(), sequence_length=16)(subnet)
    history.record(ordinal=ordinal, generation=1, genome=subnet, quality=quality, cost=cost, seconds=0.25)


def test_history_gives_back_what_it_was_given(tmp_path: Path) -> None:
    model = CostModel(architecture(), sequence_length=16)
    with History(tmp_path / "h.sqlite", OBJECTIVES) as history:
        record(history, 2, 20, quality=0.1 + 0.2)
        record(history, 1, 10, quality=float("inf"))
        history.record_dense_quality(3.5)
    with History(tmp_path / "h.sqlite", read_only=True) as history:
        first, second = history.rows()
        assert len(history) == 2
        assert history.objectives == OBJECTIVES
        assert history.dense_quality == 3.5
        assert [row.ordinal for row in history.rows(up_to=1)] == [1]
    assert (first.ordinal, first.digest, first.genome) == (1, genome(10).digest(), genome(10))
    assert second.objectives == {"perplexity": 0.1 + 0.2, "macs_per_token": model(genome(20)).macs_per_token}
    assert second.cost == model(genome(20))
    assert first.objectives["perplexity"] == float("inf")
    assert first.seconds == 0.25


def test_a_history_without_latencies_is_read_and_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "h.sqlite"
    with History(path, OBJECTIVES) as history:
        record(history, 1, 10)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE evaluations DROP COLUMN latency")
        database.execute("UPDATE meta SET value = 2 WHERE key = 'schema'")
    database.close()
    with History(path, read_only=True) as history:
        assert [row.genome for row in history.rows()] == [genome(10)]
    with History(path, OBJECTIVES) as history:
        record(history, 2, 20)
        assert [row.cost.latency for row in history.rows()] == [None, None]


def test_history_is_readable_while_it_is_written(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite", OBJECTIVES) as writer, History(tmp_path / "h.sqlite", read_only=True) as reader:
        for ordinal in (1, 2, 3):
            record(writer, ordinal, ordinal)
            assert len(list(reader.rows())) == ordinal
        with pytest.raises(RunError, match="cannot be written"):
            record(reader, 4, 4)


def test_no_ordinal_and_no_genome_is_taken_twice(tmp_path: Path) -> None:
    with History(tmp_path / "h.sqlite", OBJECTIVES) as history:
        record(history, 1, 10)
        for ordinal, number in ((1, 11), (2, 10)):
            with pytest.raises(RunError, match="already holds"):
                record(history, ordinal, number)
        assert len(history) == 1


def test_other_histories_are_refused(tmp_path: Path) -> None:
    History(tmp_path / "h.sqlite", OBJECTIVES).close()
    with pytest.raises(RunError, match="written for the objectives perplexity, macs_per_token"):
        History(tmp_path / "h.sqlite", ("kl", "params"))
    with pytest.raises(RunError, match="evaluated nothing yet"):
        History(tmp_path / "none.sqlite", read_only=True)
    (tmp_path / "text.sqlite").write_text("not a database, " * 100)
    with pytest.raises(RunError, match="not a readable history"):
        History(tmp_path / "text.sqlite", OBJECTIVES)
    sqlite3.connect(tmp_path / "empty.sqlite").close()
    with pytest.raises(RunError, match="not a readable history"):
        History(tmp_path / "empty.sqlite", read_only=True)
    with sqlite3.connect(tmp_path / "h.sqlite") as database:
        database.execute("UPDATE meta SET value = 99 WHERE key = 'schema'")
    database.close()
    with pytest.raises(RunError, match="schema 99"):
        History(tmp_path / "h.sqlite", OBJECTIVES)


def _put_many(path: Path, worker: int) -> None:
    cache = EvaluationCache(path, identity="shared")
    for number in range(60):
        cache.put(f"{number}", float(number))
        cache.put(f"{worker}-{number}", float(worker))
    cache.close()


def test_cache_stands_concurrent_writers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "cache.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    cache = EvaluationCache(path, identity="shared")
    found = cache.get([*(f"{n}" for n in range(60)), *(f"{w}-{n}" for w in range(3) for n in range(60)), "missing"])
    assert len(found) == 240
    assert found["7"] == 7.0
    assert found["2-9"] == 2.0
    assert EvaluationCache(path, identity="other").get(["7"]) == {}
    cache.put("7", 8.0)
    assert cache.get(["7"]) == {"7": 7.0}


def test_unusable_caches_are_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, " * 100)
    with pytest.raises(RunError, match="evaluation cache .*text"):
        EvaluationCache(tmp_path / "text", identity="x")


def test_lock_excludes_live_processes_and_outlives_none(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from nas_llm.search import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "held"
    with pytest.raises(RunError, match=f"in use by process {process.pid}"), RunLock(tmp_path):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with RunLock(tmp_path):
        assert (tmp_path / "checkpoint" / "lock").read_text().strip() == str(os.getpid())
        with pytest.raises(RunError, match="by this process"), RunLock(tmp_path):
            pass
    with RunLock(tmp_path):
        pass


def test_lock_is_not_kept_by_children(tmp_path: Path) -> None:
    """A worker that was forked before its parent was killed must not block the resumption."""
    code = (
        "import os, sys, time; from pathlib import Path; from nas_llm.search import RunLock\n"
        "with RunLock(Path(sys.argv[1])):\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True); time.sleep(60); os._exit(0)\n"
        "    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    try:
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def state(generation: int, payload: object) -> SearchState:
    return SearchState(generation=generation, evaluations=generation * 4, stalled=0, algorithm=payload)


def test_checkpoints_keep_the_last_three_and_leave_shared_objects_out(tmp_path: Path) -> None:
    shared = {"big": np.zeros(1_000_000)}
    store = CheckpointStore(tmp_path, shared=shared)
    for generation in range(1, 6):
        store.save(state(generation, {"scores": shared["big"], "genome": genome(generation)}))
    assert [path.name for path in store.files()] == ["gen-00005.ckpt", "gen-00004.ckpt", "gen-00003.ckpt"]
    assert store.files()[0].stat().st_size < 3000
    assert not list(store.directory.glob("*.partial"))
    other = {"big": np.ones(3)}
    loaded = CheckpointStore(tmp_path, shared=other).load_latest(lambda event: None)
    assert loaded is not None
    assert (loaded.generation, loaded.evaluations) == (5, 20)
    assert loaded.algorithm["scores"] is other["big"]
    assert loaded.algorithm["genome"] == genome(5)
    assert not loaded.algorithm["genome"].mlp_mask.flags.writeable


def test_what_a_killed_search_left_half_written_is_swept_away(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, shared={})
    store.save(state(1, {}))
    (store.directory / ".gen-00002.ckpt-killed").write_bytes(b"half")
    store.save(state(2, {}))
    assert sorted(path.name for path in store.directory.iterdir()) == ["gen-00001.ckpt", "gen-00002.ckpt"]


def test_checkpoints_of_other_versions_are_passed_over(tmp_path: Path) -> None:
    store, events = CheckpointStore(tmp_path, shared={"a": (1, 2)}), list[Event]()
    store.save(state(1, "old"))
    store.save(state(2, store.shared["a"]))
    loaded = CheckpointStore(tmp_path, shared={}).load_latest(events.append)
    assert loaded is not None
    assert loaded.generation == 1
    (notice,) = events
    assert isinstance(notice, Notice)
    assert "another version" in notice.message


def test_generators_continue_where_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rng.random(7)
    store = CheckpointStore(tmp_path, shared={})
    store.save(state(1, rng))
    expected = rng.random(5).tolist()
    loaded = store.load_latest(lambda event: None)
    assert loaded is not None
    assert loaded.algorithm.random(5).tolist() == expected


def test_no_checkpoint_is_no_state(tmp_path: Path) -> None:
    events = list[Event]()
    assert CheckpointStore(tmp_path, shared={}).load_latest(events.append) is None
    assert events == []


def test_a_second_search_waits_outside(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "support" / "synthetic_search.py"
    process = subprocess.Popen([sys.executable, str(program), str(tmp_path), "40", "0.2"])
    try:
        while not (tmp_path / "history.sqlite").exists():
            assert process.poll() is None
            time.sleep(0.02)
        second = subprocess.run(
            [sys.executable, str(program), str(tmp_path), "40", "0"], capture_output=True, text=True, check=False
        )
        assert second.returncode != 0
        assert f"in use by process {process.pid}" in second.stderr
    finally:
        process.kill()
        process.wait()
