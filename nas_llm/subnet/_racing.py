"""Racing: a candidate that is clearly beaten on part of the text is not scored on the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from nas_llm.errors import ConfigError
from nas_llm.models import one_thread
from nas_llm.settings import RacingDefaults


@dataclass(frozen=True, kw_only=True)
class Racing:
    """When to give a candidate up, after the idea of Hoeffding races (Maron and Moore, 1994).

    After each part of the text the candidate's mean loss on all of it is estimated from what was seen: the dense
    model's mean loss plus the mean difference to it, which varies far less from token to token than the loss itself.

    Args:
        parts: Parts that the text is cut into.
        confidence: Standard errors that must lie between the estimate and the loss to beat.

    Raises:
        ConfigError: If ``parts`` is below 2 or ``confidence`` negative.
    """

    parts: int = RacingDefaults.parts
    confidence: float = RacingDefaults.confidence

    def __post_init__(self) -> None:
        if self.parts < 2 or self.confidence < 0:
            raise ConfigError(
                f"racing needs at least 2 parts and a confidence of 0 or more, got {self.parts}, {self.confidence}"
            )

    def estimate(self, seen: Tensor, dense: Tensor) -> tuple[float, float]:
        """Mean loss on all tokens, and its standard error.

        Args:
            seen: Losses of the first n tokens, float64.
            dense: The dense model's losses of all N tokens, float64.
        """
        difference = seen - dense[: len(seen)]
        with one_thread():
            mean = float(dense.mean() + difference.mean())
            variance = float(difference.var()) if len(seen) > 1 else math.inf
        if not math.isfinite(mean):
            return math.inf, 0.0
        unseen = 1.0 - len(seen) / len(dense)
        return mean, math.sqrt(variance / len(seen) * unseen) if len(seen) > 1 else math.inf

    def beaten(self, seen: Tensor, dense: Tensor, bar: float) -> bool:
        """Whether a candidate's mean loss is clearly above ``bar``."""
        mean, error = self.estimate(seen, dense)
        return math.isfinite(bar) and mean - self.confidence * error > bar
