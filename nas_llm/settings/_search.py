"""Defaults of a search beside its operators: definitions, the library and the command take them from here."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DescentDefaults:
    """Of the descent: looks at each target, tokens of one look, and the share of an FFN that a step moves."""

    looks: int = 6
    tokens: int = 2048
    step_ratio: float = 0.04


@dataclass(frozen=True, kw_only=True)
class PaperDefaults:
    """Of the paper's evolution (Shen et al., section 3.3): shares of the population, then P_m, P_s, P_d and alpha.

    ``ratio_step`` is the step of the paper's FFN ratios; how far a ratio may move at once is not printed.
    """

    parents: float = 0.1
    mutations: float = 0.5
    crossovers: float = 0.3
    strong: float = 0.2
    mask_probability: float = 0.3
    ratio_probability: float = 0.1
    depth_probability: float = 0.1
    strong_mask_probability: float = 0.6
    strong_ratio_probability: float = 0.3
    strong_depth_probability: float = 0.1
    alpha: float = 0.8
    temperature: float = math.inf
    ratio_step: float = 0.05
    transfer_probability: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RacingDefaults:
    """Of racing: parts of the text, and standard errors between an estimate and the loss to beat."""

    parts: int = 4
    confidence: float = 3.0


@dataclass(frozen=True, kw_only=True)
class FrontDefaults:
    """Of the reported points: how many at most."""

    size: int = 12


@dataclass(frozen=True, kw_only=True)
class ResourcesDefaults:
    """Of what a search may use: Ray workers, 0 = this process."""

    workers: int = 0
