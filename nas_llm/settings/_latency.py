"""Defaults of a latency table: definitions and the library take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class LatencyDefaults:
    """Which forward pass is timed, and how."""

    phase: Literal["prefill", "decode"] = "prefill"
    tokens: int = 512
    context: int = 512
    batch: int = 1
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    points: int = 9
    repeats: int = 20
