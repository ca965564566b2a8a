"""A search with Ray workers is the same search, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from ray_evaluators import broken, fatal, load, slow
from synthetic_search import architecture

from nas_llm.config import load_problem
from nas_llm.errors import ConfigError, RunError
from nas_llm.events import Event, StageStarted
from nas_llm.search import History
from nas_llm.session import RayPool
from nas_llm.space import Genome
from nas_llm.workflow import Resources, run_search

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")

SETTINGS = (
    "search.population=8",
    "search.evaluations=20",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=512",
    "data.held_out.tokens=256",
    "front.size=4",
)


def test_a_cluster_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot use Ray at 'localhost:1'"):
        RayPool(load, workers=1, address="localhost:1")


@pytest.fixture(scope="module")
def ray_runtime() -> Iterator[None]:
    """Ray on this machine, with room for several pools, whose workers find the folder of test helpers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "support"), prepend=os.pathsep)
        ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 27)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def pool(ray_runtime: None) -> Iterator[RayPool]:
    with RayPool(load, workers=2) as pool:
        yield pool


def _genomes(count: int = 24) -> list[Genome]:
    import numpy as np

    rng, sizes = np.random.default_rng(0), architecture()
    shape = (sizes.num_layers, sizes.num_kv_heads), (sizes.num_layers, sizes.intermediate_size)
    return [Genome(rng.random(shape[0]) < 0.7, rng.random(shape[1]) < 0.7) for _ in range(count)]


def _history(directory: Path) -> list[tuple[object, ...]]:
    query = "SELECT ordinal, generation, digest, quality, fidelity FROM evaluations ORDER BY ordinal"
    return sqlite3.connect(directory / "history.sqlite").execute(query).fetchall()


def test_values_come_back_in_order_and_are_told(pool: RayPool) -> None:
    genomes, told = _genomes(), {}
    evaluator = pool.evaluator("plain", partial(slow, seconds=0.0))
    values = evaluator.evaluate(genomes, on_result=lambda index, value, *_: told.update({index: value}))
    assert values == [slow(None).perplexity(genome) for genome in genomes]
    assert [told[index] for index in range(len(genomes))] == values
    assert evaluator.identity == "slow"


def test_losses_of_windows_come_back_in_order(pool: RayPool) -> None:
    genomes, told = _genomes(), []
    evaluator = pool.evaluator("plain", partial(slow, seconds=0.0))
    found = evaluator.window_losses(genomes, on_done=lambda: told.append(1))
    assert found.tolist() == slow(None).window_losses(genomes).tolist()
    assert len(told) == len(genomes)


def test_a_killed_worker_is_replaced_and_its_work_redone(pool: RayPool) -> None:
    genomes, told = _genomes(), []
    evaluator = pool.evaluator("killed", slow)
    victim = threading.Timer(0.3, os.kill, (pool.process_ids[0], signal.SIGKILL))
    victim.start()
    values = evaluator.evaluate(genomes, on_result=lambda index, *_: told.append(index))
    victim.join()
    assert values == [slow(None).perplexity(genome) for genome in genomes]
    assert sorted(told) == list(range(len(genomes)))
    with pytest.raises(ProcessLookupError):
        os.kill(pool.process_ids[0], 0)


def test_workers_that_always_die_end_the_search_with_one_line(ray_runtime: None) -> None:
    with RayPool(load, workers=1) as single, pytest.raises(RunError, match="workers died one after the other"):
        single.evaluator("fatal", fatal).evaluate(_genomes(1))


def test_an_error_in_a_worker_is_the_error_of_the_caller(pool: RayPool) -> None:
    with pytest.raises(ConfigError, match="no such text"):
        pool.evaluator("broken", broken)


def test_a_stop_passes_through_and_the_pool_lives_on(pool: RayPool) -> None:
    evaluator = pool.evaluator("plain", partial(slow, seconds=0.0))

    def stop(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate(_genomes(), on_result=stop)
    assert len(evaluator.evaluate(_genomes())) == 24


def test_more_workers_than_the_machine_has_room_for_are_refused(pool: RayPool) -> None:
    with pytest.raises(ConfigError, match="50 workers with 2 CPU each need 100 CPU, Ray has . free"):
        RayPool(load, workers=50, threads=2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "alone"
    run_search(load_problem("tiny-llama", overrides=SETTINGS), run_dir=directory, shared_cache=False)
    return directory


def test_two_workers_give_the_history_of_one_process_even_if_one_is_killed(
    tmp_path: Path, alone: Path, ray_runtime: None
) -> None:
    killed: list[int] = []

    def kill_one(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "search":
            threading.Thread(target=_kill_a_worker, args=(killed,)).start()

    run_search(
        load_problem("tiny-llama", overrides=SETTINGS),
        run_dir=tmp_path / "two",
        shared_cache=False,
        resources=Resources(workers=2, threads=1),
        on_event=kill_one,
    )
    assert _history(tmp_path / "two") == _history(alone)
    assert (tmp_path / "two" / "front.json").read_text() == (alone / "front.json").read_text()
    assert killed


def _kill_a_worker(killed: list[int]) -> None:
    import psutil

    time.sleep(0.2)
    for process in psutil.Process().children(recursive=True):
        if "_Actor" in process.name() or any("_Actor" in part for part in process.cmdline()):
            killed.append(process.pid)
            process.kill()
            return


def test_racing_is_part_of_the_history(tmp_path: Path, alone: Path) -> None:
    overrides = (*SETTINGS, "fitness.racing=true", "data.fitness.tokens=1024", "search.evaluations=40")
    run_search(load_problem("tiny-llama", overrides=overrides), run_dir=tmp_path / "raced", shared_cache=False)
    with History(tmp_path / "raced" / "history.sqlite", read_only=True) as history:
        rows = list(history.rows())
    assert len(rows) == 40
    assert all(0.0 < row.fidelity <= 1.0 for row in rows)
    assert all(row.fidelity == 1.0 for row in rows[:8])


def test_a_smaller_memory_and_fewer_threads_change_no_bit(tmp_path: Path, alone: Path) -> None:
    resources = Resources(threads=1, memory_gb=0.02)
    run_search(
        load_problem("tiny-llama", overrides=SETTINGS),
        run_dir=tmp_path / "small",
        shared_cache=False,
        resources=resources,
    )
    assert _history(tmp_path / "small") == _history(alone)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"workers": -1}, "--workers must be 0 or more"),
        ({"threads": 0}, "--threads must be at least 1"),
        ({"memory_gb": 0.0}, "--memory must be a number of GB above 0"),
    ],
)
def test_impossible_resources_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Resources(**wrong)  # type: ignore[arg-type]
