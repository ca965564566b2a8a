"""Evaluators for Ray workers, in a module that workers can import."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from synthetic_search import SyntheticEvaluator, architecture, unit_scores

from nas_llm.errors import ConfigError
from nas_llm.space import Genome


class SlowEvaluator(SyntheticEvaluator):
    identity = "slow"

    def window_losses(self, genomes: Sequence[Genome]) -> npt.NDArray[np.float64]:
        """Three windows of a perplexity each."""
        return np.array([[self.perplexity(genome) * part for part in (1.0, 2.0, 3.0)] for genome in genomes])


class FatalEvaluator(SlowEvaluator):
    """Takes its worker down with it."""

    def evaluate(self, genomes: Sequence[Genome], **_: Any) -> list[float]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


def load() -> None:
    """Nothing to load."""


def slow(host: object, seconds: float = 0.05) -> SlowEvaluator:
    return SlowEvaluator(unit_scores(architecture()), seconds=seconds)


def fatal(host: object) -> FatalEvaluator:
    return FatalEvaluator(unit_scores(architecture()))


def broken(host: object) -> SlowEvaluator:
    raise ConfigError("no such text")
