"""One row of a learning curve."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The state of a training after some steps.

    Attributes:
        step: Optimizer steps so far; 0 = before the training.
        tokens: Tokens seen so far, repetitions counted.
        seconds: Training time so far, without the time of measuring.
        loss: Mean loss over the windows of this step; None before the first.
        perplexity: On the held-out windows; None where it was not measured.
    """

    step: int
    tokens: int
    seconds: float
    loss: float | None
    perplexity: float | None = None

    def to_json(self) -> str:
        """One line of the file."""
        return json.dumps(asdict(self)) + "\n"
