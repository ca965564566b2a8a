"""Defaults of the finishing methods: definitions, the library and the command take them from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


def several(values: float | Sequence[float]) -> tuple[float, ...]:
    """The values of a setting that names one or several.

    Args:
        values: A number, or numbers.
    """
    return (float(values),) if isinstance(values, float | int) else tuple(map(float, values))


@dataclass(frozen=True, kw_only=True)
class FinishingFacts:
    """What a definition has to know of a finishing method of the package.

    Attributes:
        meaning: What it does, in a few words.
        needs_text: Whether it looks at calibration text.
    """

    meaning: str
    needs_text: bool = True


FINISHING_METHODS: Mapping[str, FinishingFacts] = {
    "sequential": FinishingFacts(meaning="block by block on the subnet's own inputs"),
    "closed_form": FinishingFacts(meaning="each block for itself"),
    "admm": FinishingFacts(meaning="the same by the paper's iteration"),
    "none": FinishingFacts(meaning="inherited weights", needs_text=False),
}
"""The finishing methods of the package by name."""
FINISHING_KIND = "finishing method"
"""What their registry calls them."""


@dataclass(frozen=True, kw_only=True)
class ReconstructionDefaults:
    """Of all methods that refit: the method, the ridge, and the share of windows held out to choose between ridges."""

    method: str = "sequential"
    damping: float = 1e-2
    validation: float = 0.1


@dataclass(frozen=True, kw_only=True)
class SequentialDefaults:
    """Of the sequential reconstruction: aim, shares, beginning, weights of tokens, and whether inputs are refitted."""

    target: Literal["residual", "sublayer"] | float = "residual"
    step: float = 0.5
    blend: float = 0.7
    start: Literal["closed_form", "inherited"] = "closed_form"
    token_weights: Literal["relative", "uniform"] = "relative"
    refit_inputs: bool = True
    batch_tokens: int = 2048


@dataclass(frozen=True, kw_only=True)
class AdmmDefaults:
    """Of ADMM: its penalty and its iterations."""

    rho: float = 1.0
    iterations: int = 30
