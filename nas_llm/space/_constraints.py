"""The cost constraints of a problem, as numbers."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from nas_llm.space._cost import Cost
from nas_llm.space._scores import FloatArray

# Config key to the cost that it bounds.
_BOUNDED = {
    "min_ratio": "inheriting_ratio",
    "max_ratio": "inheriting_ratio",
    "max_macs_per_token": "macs_per_token",
    "max_params": "params",
    "max_kv_cache_bytes": "kv_cache_bytes",
}


class CostBounds(Protocol):
    """Bounds on the cost of a genome, as the section ``[constraints]`` of a problem has them; None = no bound."""

    @property
    def min_ratio(self) -> float | None:
        """Lowest inheriting ratio."""

    @property
    def max_ratio(self) -> float | None:
        """Highest inheriting ratio."""

    @property
    def max_macs_per_token(self) -> int | None:
        """Most multiply-accumulates per token."""

    @property
    def max_params(self) -> int | None:
        """Most parameters."""

    @property
    def max_kv_cache_bytes(self) -> int | None:
        """Most bytes of the KV cache per token."""


class CostConstraints:
    """Bounds on the cost of a genome, as normalised inequalities ``G <= 0``.

    Args:
        section: The bounds; those that are None do not count. None = there are no bounds.

    Attributes:
        bounds: Triples of config key, cost name and bound; ``min_ratio`` is the only lower one.
    """

    def __init__(self, section: CostBounds | None = None) -> None:
        self.bounds = tuple(
            (key, cost, float(bound))
            for key, cost in _BOUNDED.items()
            if section is not None and (bound := getattr(section, key)) is not None
        )

    def violations(self, cost: Cost) -> FloatArray:
        """One number a bound: how far it is overstepped, as a fraction of it; 0 or less = kept."""
        return np.array(
            [
                (bound - getattr(cost, name) if key == "min_ratio" else getattr(cost, name) - bound) / bound
                for key, name, bound in self.bounds
            ],
            dtype=np.float64,
        )

    def satisfied(self, cost: Cost) -> bool:
        """Whether every bound is kept."""
        return bool((self.violations(cost) <= 0.0).all())
