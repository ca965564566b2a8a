"""The cost constraints of a problem, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from nas_llm.space._cost import Cost
from nas_llm.space._scores import FloatArray
from nas_llm.space.objectives import objective

_COSTS = {
    "min_ratio": "inheriting_ratio",
    "max_ratio": "inheriting_ratio",
    "max_macs_per_token": "macs_per_token",
    "max_params": "params",
    "max_kv_cache_bytes": "kv_cache_bytes",
}


class Bounds(Protocol):
    """What says the bounds; ``[constraints]`` of a problem does. Those that are None do not count."""

    @property
    def min_ratio(self) -> float | None:
        """Lowest inheriting ratio."""

    @property
    def max_ratio(self) -> float | None:
        """Highest inheriting ratio."""

    @property
    def max_macs_per_token(self) -> float | None:
        """Most MACs per token."""

    @property
    def max_params(self) -> float | None:
        """Most parameters."""

    @property
    def max_kv_cache_bytes(self) -> float | None:
        """Most KV-cache bytes per token."""


# Key, cost and bound.
Bound = tuple[str, str, float]


class CostConstraints:
    """Bounds on the cost of a genome, as normalised inequalities ``G <= 0``.

    Args:
        section: Bounds to begin with, e.g. ``problem.bounds``; those named beside it take precedence. What it has
            under ``further`` (key, cost and upper bound each) counts, too.
        min_ratio: Lowest inheriting ratio.
        max_ratio: Highest inheriting ratio.
        max_macs_per_token: Most MACs per token.
        max_params: Most parameters.
        max_kv_cache_bytes: Most KV-cache bytes per token.

    Attributes:
        bounds: Triples of config key, cost name and bound; ``min_ratio`` is the only lower one.
    """

    def __init__(
        self,
        section: Bounds | None = None,
        *,
        min_ratio: float | None = None,
        max_ratio: float | None = None,
        max_macs_per_token: float | None = None,
        max_params: float | None = None,
        max_kv_cache_bytes: float | None = None,
    ) -> None:
        given = {
            "min_ratio": min_ratio,
            "max_ratio": max_ratio,
            "max_macs_per_token": max_macs_per_token,
            "max_params": max_params,
            "max_kv_cache_bytes": max_kv_cache_bytes,
        }
        named = {key: getattr(section, key, None) if bound is None else bound for key, bound in given.items()}
        further: Sequence[Bound] = getattr(section, "further", ())
        self.bounds: tuple[Bound, ...] = (
            *((key, _COSTS[key], float(bound)) for key, bound in named.items() if bound is not None),
            *((key, name, float(bound)) for key, name, bound in further),
        )

    @property
    def linear(self) -> tuple[Bound, ...]:
        """The bounds on costs that are sums over units."""
        return tuple(bound for bound in self.bounds if bound[1] == "inheriting_ratio" or objective(bound[1]).additive)

    @property
    def timed(self) -> tuple[Bound, ...]:
        """The other bounds, all upper ones: on what is predicted from measured times."""
        return tuple(bound for bound in self.bounds if bound not in self.linear)

    def tightened(self, max_block_params: float) -> CostConstraints:
        """These bounds and an upper one on the parameters in decoder blocks.

        Args:
            max_block_params: That bound.
        """
        found = CostConstraints()
        found.bounds = (*self.bounds, ("max_block_params", "block_params", max_block_params))
        return found

    def violations(self, cost: Cost) -> FloatArray:
        """One number a bound: how far it is overstepped, as a fraction of it; 0 or less = kept."""
        return np.array(
            [
                (bound - cost.value(name) if key == "min_ratio" else cost.value(name) - bound) / bound
                for key, name, bound in self.bounds
            ],
            dtype=np.float64,
        )

    def satisfied(self, cost: Cost) -> bool:
        """Whether every bound is kept."""
        return bool((self.violations(cost) <= 0.0).all())
