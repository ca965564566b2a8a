"""Defaults of a search beside its operators: definitions, the library and the command take them from here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DescentDefaults:
    """Of the descent: looks at each target, tokens of one look, and the share of an FFN that a step moves."""

    looks: int = 6
    tokens: int = 2048
    step_ratio: float = 0.04


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
