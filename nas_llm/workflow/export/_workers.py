"""Points exported one after another, or side by side in forked processes that share the loaded model."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from nas_llm.errors import ExportError
from nas_llm.events import EventHandler, Notice
from nas_llm.finishing import Finisher
from nas_llm.models import available_bytes
from nas_llm.runs import Run
from nas_llm.session import Prepared
from nas_llm.workflow.export._point import Refusal, export_point, refusal
from nas_llm.workflow.export._record import ExportRecord
from nas_llm.workflow.export._task import ExportTask

Answer = ExportRecord | Refusal
_PR_SET_PDEATHSIG = 1


def export_all(
    run: Run,
    groups: Sequence[Sequence[ExportTask]],
    prepared: Prepared,
    finisher: Finisher,
    *,
    jobs: int,
    on_event: EventHandler,
) -> Generator[tuple[Sequence[ExportTask], list[Answer]], None, None]:
    """Export groups of tasks, one point a group. To be closed when it is left early: then its processes end.

    Args:
        run: The run.
        groups: Tasks by point.
        prepared: Its model and calibration, loaded once.
        finisher: What makes the weights.
        jobs: Points at a time.
        on_event: Told if fewer are done at a time and, with one job, as layers are reconstructed.

    Yields:
        Each group with its answers, as they are finished.

    Raises:
        ExportError: If a point cannot be written; no further ones are begun.
    """
    jobs = _allowed(min(jobs, len(groups)), prepared, finisher, on_event)
    if jobs == 1:
        # As many points as memory allows are finished together: a sequential pass runs the dense model once for all.
        size = finisher.at_once()
        for first in range(0, len(groups), size):
            chunk = groups[first : first + size]
            wanted = [tasks[0].point for tasks in chunk if any(refusal(task, prepared) is None for task in tasks)]
            finished = finisher.finish(wanted, on_event=on_event) if wanted else []
            weights = {point.id: made for point, made in zip(wanted, finished, strict=True)}
            del finished
            for tasks in chunk:
                yield tasks, export_point(run, tasks, prepared, weights.pop(tasks[0].point.id, None))
        return

    def work(index: int) -> list[Answer]:
        tasks = groups[index]
        wanted = any(refusal(task, prepared) is None for task in tasks)
        return export_point(run, tasks, prepared, finisher.finish([tasks[0].point], jobs=jobs)[0] if wanted else None)

    # Forked, not spawned: the children see the loaded model and calibration without loading or copying them.
    global _work
    _work = work
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("fork"), initializer=_begin, initargs=(os.getpid(),)
    )
    try:
        futures = {executor.submit(_do, index): tasks for index, tasks in enumerate(groups)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        raise ExportError(
            "an export process was killed, most likely for want of memory; say the same again with fewer --jobs, "
            "finished exports are kept"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        # A point may take minutes; what they leave half-written is swept away by whoever holds the folder.
        for child in set(multiprocessing.active_children()) - others:
            child.kill()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
        _work = None


_work: Callable[[int], list[Answer]] | None = None


def _do(index: int) -> list[Answer]:
    assert _work is not None
    return _work(index)


def _begin(parent: int) -> None:
    """In a fresh child: no thread pools over a fork, and no life after the parent, who holds the folder's lock.

    Ctrl-C reaches the children, too; it is the parent who answers, and ends them.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _allowed(jobs: int, prepared: Prepared, finisher: Finisher, on_event: EventHandler) -> int:
    """As many jobs as device and memory take."""
    if jobs > 1 and prepared.device.type != "cpu":
        on_event(Notice(f"points are exported one at a time on {prepared.device.type}"))
        return 1
    if jobs > 1:
        # A subnet, its copies in other types, what is loaded back, and its finish.
        dense = sum(parameter.numel() * 4 for parameter in prepared.dense.model.parameters())
        fitting = max(1, available_bytes() // (3 * dense + finisher.point_bytes()))
        if fitting < jobs:
            on_event(Notice(f"memory is enough for {fitting} of {jobs} points at a time"))
        jobs = min(jobs, fitting)
    return jobs
