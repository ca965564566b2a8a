"""Whether the process that runs a trial is still there, on any storage.

Optuna's own heartbeat exists for databases only, and neither for journal files nor through the gRPC proxy. This one is
two user attributes of the trial, so it works everywhere.
"""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil

from nas_llm.studies._optuna import id_of_trial

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

OWNER, BEAT = "owner", "heartbeat"
BEAT_SECONDS = 15.0
# So many beats may be missing: a process that waits for a disk is not dead.
_MISSED_BEATS = 6


def this_process() -> dict[str, Any]:
    """What tells this process from any other, now or later, here or elsewhere."""
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


@contextmanager
def heartbeat(storage: BaseStorage, trial_id: int, *, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """While entered, a trial is marked as run by this process, and a thread shows that it is alive.

    Args:
        storage: Where the trial lies.
        trial_id: Optuna's id of it.
        seconds: Time between two beats.
    """
    storage.set_trial_user_attr(trial_id, OWNER, this_process())
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(storage, trial_id, seconds, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _beat(storage: BaseStorage, trial_id: int, seconds: float, stop: threading.Event) -> None:
    count = 0
    while not stop.wait(seconds):
        count += 1
        try:
            storage.set_trial_user_attr(trial_id, BEAT, count)
        except Exception:
            # The trial was given to somebody else, or the storage is away; the main thread will see it, too.
            return


class Watch:
    """Finds trials whose process is gone.

    On this machine the process is looked up. Elsewhere its beats are watched: a trial is stale when they have stood
    still for several intervals of this process's own clock, so clocks need not agree.

    Args:
        seconds: Time between two beats.
        clock: Seconds that only grow.
    """

    def __init__(self, *, seconds: float = BEAT_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace = _MISSED_BEATS * seconds
        self._clock = clock
        self._seen: dict[int, tuple[Any, float]] = {}

    def stale(self, running: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of the running trials that nobody works on any more."""
        return [trial for trial in running if self._is_stale(trial)]

    def _is_stale(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        if owner is not None and owner["machine"] == _machine():
            return not _is_alive(owner)
        beat, now = (owner, trial.user_attrs.get(BEAT)), self._clock()
        known = self._seen.get(id_of_trial(trial))
        if known is None or known[0] != beat:
            self._seen[id_of_trial(trial)] = (beat, now)
            return False
        return now - known[1] > self._grace


def _is_alive(owner: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(owner["pid"])
        # Process ids are used again; a zombie is dead and not yet buried.
        same = bool(abs(process.create_time() - owner["started"]) < 1.0)
        return same and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _machine() -> str:
    """Machines may share a name, and containers a boot: process ids mean the same only within one namespace."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return f"{platform.node()} {psutil.boot_time():.0f} {namespace}".strip()
