"""Weighted sampling of units without replacement."""

from __future__ import annotations

import math

import numpy as np

from nas_llm.space._genome import IntArray
from nas_llm.space._scores import FloatArray


def weighted_choice(ranks: FloatArray, count: int, *, temperature: float, rng: np.random.Generator | None) -> IntArray:
    """Draw units without replacement, rather those of high rank (Gumbel top-k, Kool et al., ICML 2019).

    The ``count`` largest keys ``rank / temperature + Gumbel`` are taken, which is sequential sampling with weights
    ``exp(rank / temperature)``.

    Args:
        ranks: ``N`` ranks in (0, 1], larger = rather drawn.
        count: Units to draw, at most ``N``.
        temperature: 0 = the top ``count`` ranks, infinity = uniform.
        rng: Source of randomness; not needed at temperature 0.

    Returns:
        ``count`` indices, ascending.
    """
    if count >= len(ranks):
        return np.arange(len(ranks), dtype=np.int64)
    if temperature == 0.0:
        keys = ranks
    else:
        assert rng is not None
        noise = rng.gumbel(size=len(ranks))
        keys = noise if math.isinf(temperature) else ranks / temperature + noise
    chosen = np.argsort(-keys, kind="stable")[:count]
    return np.sort(chosen).astype(np.int64)
