"""Defaults of the search space and of its costs: definitions and the library take them from here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ATTENTION_MODES = ("kv_group", "head_dim", "head_dim_split")
"""Units of attention pruning: whole KV groups; channels of every head; those of q/k and of v/o apart."""


@dataclass(frozen=True, kw_only=True)
class SpaceDefaults:
    """Which genomes are allowed."""

    ffn_multiple: int = 32
    attn_ratio: tuple[float, float] = (0.3, 1.0)
    mlp_ratio: tuple[float, float] = (0.1, 1.0)
    protected_layers: tuple[int, ...] = ()
    attention: Literal["kv_group"] = "kv_group"
    rotate_values: bool = False


@dataclass(frozen=True, kw_only=True)
class CostDefaults:
    """Where MACs per token are stated."""

    sequence_length: int = 1024
