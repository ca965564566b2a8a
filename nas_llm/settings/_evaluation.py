"""Defaults of measuring models: the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class EvaluationDefaults:
    """Tokens of a window, the device, and the arithmetic."""

    window: int = 1024
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, kw_only=True)
class PaperProtocol:
    """What the paper reports of a model: two whole texts in windows of 2,048 tokens, seven tasks without examples."""

    texts: tuple[str, ...] = ("wikitext2", "ptb")
    window: int = 2048
    windows: str = "all"
    tasks: tuple[str, ...] = ("commonsense7",)


@dataclass(frozen=True, kw_only=True)
class WorkloadDefaults:
    """What a model is put through for latency and memory."""

    prompt_tokens: int = 512
    new_tokens: int = 32
    batch: int = 1
    rounds: int = 5
