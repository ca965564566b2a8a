"""What a finishing method is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from nas_llm.calibration import Calibration
from nas_llm.config import Problem
from nas_llm.data import Splits
from nas_llm.models import DenseModel
from nas_llm.reconstruction import Residual
from nas_llm.space import CostModel
from nas_llm.subnet import BlockEdit


class FinishInputs(Protocol):
    """A problem, loaded (``nas_llm.session.Prepared`` is one); a method changes nothing of it."""

    @property
    def problem(self) -> Problem:
        """The definition; ``problem.seed`` seeds what is drawn, ``problem.reconstruction`` is its section."""

    @property
    def base_dir(self) -> Path:
        """Folder that its relative paths start from."""

    @property
    def dense(self) -> DenseModel:
        """The model that subnets inherit from."""

    @property
    def device(self) -> torch.device:
        """Where to compute."""

    @property
    def splits(self) -> Splits:
        """Text; ``splits.finish`` is what weights may be fitted to, fitness and held-out text are not."""

    @property
    def calibration(self) -> Calibration:
        """Scores of all units, and Grams of the calibration text."""

    @property
    def cost_model(self) -> CostModel:
        """Exact costs of genomes."""


@dataclass(frozen=True, eq=False)
class Finished:
    """One finished point.

    Attributes:
        edit: What ``build_subnet`` has to do with each sliced block.
        residuals: One a refitted projection; None of a method that records none.
        chosen: Keys of ``[reconstruction]`` that name several values, to the one that this point has.
    """

    edit: BlockEdit
    residuals: tuple[Residual, ...] | None = None
    chosen: Mapping[str, float] = field(default_factory=dict)
