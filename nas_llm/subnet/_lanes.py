"""Several candidates at a time on one CPU: fewer cores each, and none waits for another's short operations."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

import torch

C = TypeVar("C")
R = TypeVar("R")

# Beyond this the lanes' hidden states no longer share a cache.
_MOST_LANES = 8


def lanes_for(device: torch.device) -> int:
    """How many candidates to run at a time at most: one a core, up to eight; on a GPU one."""
    return min(torch.get_num_threads(), _MOST_LANES) if device.type == "cpu" else 1


def in_lanes(chunks: Sequence[C], work: Callable[[C], Iterator[R]], *, lanes: int) -> Generator[R, None, None]:
    """Results of ``work`` on all chunks, as they come, from threads that share the cores evenly.

    To be closed when it is left early: then the threads stop after their present result.

    Args:
        chunks: What there is to do; the next free lane takes the next one.
        work: Yields a chunk's results; runs in inference mode.
        lanes: Threads.
    """
    cores = torch.get_num_threads()
    pending, results = deque(chunks), queue.SimpleQueue[tuple[R | None, BaseException | None, bool]]()
    stop = threading.Event()

    def take() -> C | None:
        try:
            return pending.popleft()
        except IndexError:
            return None

    def run() -> None:
        torch.set_num_threads(max(1, cores // lanes))
        failure: BaseException | None = None
        try:
            with torch.inference_mode():
                while not stop.is_set() and (chunk := take()) is not None:
                    for result in work(chunk):
                        results.put((result, None, False))
                        if stop.is_set():
                            return
        except BaseException as error:
            failure = error
        finally:
            results.put((None, failure, True))

    threads = [threading.Thread(target=run, name=f"lane-{number}", daemon=True) for number in range(lanes)]
    try:
        for thread in threads:
            thread.start()
        running = lanes
        while running:
            result, failure, ended = results.get()
            if failure is not None:
                raise failure
            if ended:
                running -= 1
            else:
                assert result is not None
                yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        # The number of threads that new threads begin with is shared by the whole process.
        torch.set_num_threads(cores)
