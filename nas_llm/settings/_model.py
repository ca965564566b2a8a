"""Defaults of where and how a model is: definitions, the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ModelDefaults:
    """Of the dense model: the device, the arithmetic, and whether its blocks stay on disk."""

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    offload: bool | Literal["auto"] = "auto"
