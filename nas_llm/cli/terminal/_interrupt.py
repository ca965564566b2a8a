"""Ctrl-C: the first asks a search to stop after saving, the second aborts."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType


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
