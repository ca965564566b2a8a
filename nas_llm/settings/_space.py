"""Defaults of the search space and of its costs: definitions and the library take them from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SpaceDefaults:
    """Which genomes are allowed."""

    ffn_multiple: int = 32
    attn_ratio: tuple[float, float] = (0.3, 1.0)
    mlp_ratio: tuple[float, float] = (0.1, 1.0)
    protected_layers: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CostDefaults:
    """Where MACs per token are stated."""

    sequence_length: int = 1024
