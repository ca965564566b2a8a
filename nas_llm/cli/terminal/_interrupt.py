"""Ctrl-C and SIGTERM: a command ends with one line and exit code 130, those that can save what they have do so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

INTERRUPTED = 130
"""Exit code of a command that was interrupted."""


@contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """While entered, SIGTERM raises ``KeyboardInterrupt`` as Ctrl-C does, unless it has a meaning already."""
    own = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not own:
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class StopOnInterrupt:
    """While entered, SIGINT (and SIGTERM) set a flag once and raise ``KeyboardInterrupt`` from then on.

    Args:
        on_first: Called at the first signal, to tell the person what happens now.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._asked = False
        self._previous: dict[int, object] = {}

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._asked

    def __enter__(self) -> StopOnInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        self._on_first()
