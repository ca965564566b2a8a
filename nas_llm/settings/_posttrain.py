"""Defaults of a training of an export: the library and the command take them from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LEARNING_RATES: Mapping[str, float] = {"lora": 1e-3, "full": 1e-4}
"""Peak that suits a training method where nobody chose another."""


@dataclass(frozen=True, kw_only=True)
class PosttrainDefaults:
    """What is trained, the batch, the rank of low-rank updates, the seed, the arithmetic, points of the curve."""

    method: str = "lora"
    batch: int = 8
    rank: int = 16
    seed: int = 0
    dtype: str = "auto"
    points: int = 10


@dataclass(frozen=True, kw_only=True)
class PosttrainTextDefaults:
    """Tokens of a window, and how much of the held-out text is measured."""

    window: int = 512
    held_out_windows: int = 16
