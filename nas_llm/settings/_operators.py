"""Defaults of the variation operators, in the paper's symbols: the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass

MUTATION_NAMES = ("guided", "depth", "ratio", "mask")
"""The package's own mutations, in the order in which a search applies them."""
CROSSOVER_NAMES = ("uniform", "one_point")
SAMPLING_NAMES = ("importance",)


@dataclass(frozen=True, kw_only=True)
class MaskDefaults:
    """Of mask mutation: P_m, alpha, the importance temperature, and eta of the literal form."""

    probability: float = 0.7
    alpha: float = 0.95
    temperature: float = 0.01
    literal: bool = False
    tries: int = 1000


@dataclass(frozen=True, kw_only=True)
class RatioDefaults:
    """Of ratio mutation: P_s, the largest move, shares of budget transfers, KV groups and heads, temperature."""

    probability: float = 0.175
    ratio_step: float = 0.035
    transfer_probability: float = 0.05
    group_probability: float = 0.15
    head_probability: float = 0.4
    temperature: float = 0.01


@dataclass(frozen=True, kw_only=True)
class DepthDefaults:
    """Of depth mutation: P_d."""

    probability: float = 0.25


@dataclass(frozen=True, kw_only=True)
class GuidedDefaults:
    """Of guided mutation: P_g and the temperature."""

    probability: float = 0.9
    temperature: float = 0.01


@dataclass(frozen=True, kw_only=True)
class CrossoverDefaults:
    """Of crossover: how parents are mixed, and the share of matings that are crossed."""

    kind: str = "uniform"
    probability: float = 0.45


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """Of the first population: the importance temperature."""

    temperature: float = 0.01
