"""How long a training goes on, and how its learning rate follows that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_WARM_UP = 0.05
_FIRST = 0.01


class Stopwatch:
    """Seconds since :meth:`start`, pauses left out.

    Args:
        now: A clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._started: float | None = None
        self._ran = 0.0

    def start(self) -> None:
        """Begin, or go on."""
        self._started = self._now()

    @property
    def seconds(self) -> float:
        """What it shows."""
        return self._ran + (0.0 if self._started is None else self._now() - self._started)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stand still inside."""
        self._ran, self._started = self.seconds, None
        try:
            yield
        finally:
            self.start()


class Budget:
    """Steps, seconds, or both, whichever is spent first.

    Args:
        steps: Steps at most.
        seconds: Seconds of the stopwatch at most.
        watch: The stopwatch.
    """

    def __init__(self, *, steps: int | None, seconds: float | None, watch: Stopwatch) -> None:
        assert steps is not None or seconds is not None
        self._steps, self._seconds, self.watch = steps, seconds, watch

    def progress(self, step: int) -> float:
        """Spent share of the budget after a number of steps, in [0, 1]."""
        by_steps = 0.0 if self._steps is None else step / self._steps
        by_time = 0.0 if self._seconds is None else self.watch.seconds / self._seconds
        return min(1.0, max(by_steps, by_time))

    def spent(self, step: int) -> bool:
        """Whether no further step fits after a number of steps, going by their mean time."""
        if self._steps is not None and step >= self._steps:
            return True
        elapsed = self.watch.seconds
        return self._seconds is not None and elapsed + elapsed / max(step, 1) > self._seconds

    def rate(self, step: int) -> float:
        """Share of the peak learning rate for the step after a number of steps.

        A warm-up over the first twentieth of the budget, then a straight line down to zero at its end.
        """
        progress = self.progress(step)
        return min(1.0, (progress + _FIRST) / _WARM_UP, 1.0 - progress)
