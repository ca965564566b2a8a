"""Progress of genomes that are evaluated one by one."""

from __future__ import annotations

from nas_llm.events import EventHandler, StageAdvanced


class Counter:
    """Tells how many are done; takes whatever an evaluator says of one.

    Args:
        stage: Of which stage.
        on_event: Told.
    """

    def __init__(self, stage: str, on_event: EventHandler) -> None:
        self._stage, self._on_event, self._done = stage, on_event, 0

    def __call__(self, *_: object, **__: object) -> None:
        """One more is done."""
        self._done += 1
        self._on_event(StageAdvanced(self._stage, self._done))
