"""Defaults of the calibration: definitions and the library take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class CalibrationDefaults:
    """How units are scored, and the ridge of X X^T as a fraction of its mean diagonal."""

    scorer: Literal["importance", "obs"] = "obs"
    damping: float = 1e-2
