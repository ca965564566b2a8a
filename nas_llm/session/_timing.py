"""Times of the dense model's sublayers: how their measurement is told, and what it resulted in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nas_llm import display
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted


@dataclass(frozen=True, kw_only=True)
class Timing:
    """A measurement under way, as a stage.

    Attributes:
        stage: What the stage is called.
        rounds: How many rounds it takes.
        on_event: Called with every event.
        checkpoint: Called between rounds; may raise.
    """

    stage: str
    rounds: int
    on_event: EventHandler
    checkpoint: Callable[[], None]

    def on_start(self, detail: str) -> None:
        """It begins; not called where the cache has the times."""
        self.on_event(StageStarted(self.stage, detail, self.rounds))

    def on_round(self, done: int) -> None:
        """A round is over."""
        self.on_event(StageAdvanced(self.stage, done))
        self.checkpoint()

    def finished(self, seconds: float, device: str) -> None:
        """What the dense model takes by it.

        Args:
            seconds: Of the dense model.
            device: Name of the device.
        """
        said = f"{display.latency(seconds)} for the dense model on {device}, predicted"
        self.on_event(StageFinished(self.stage, said))
