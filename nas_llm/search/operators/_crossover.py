"""Crossover: children take whole layers from either parent."""

from __future__ import annotations

import numpy as np

from nas_llm.errors import ConfigError
from nas_llm.search.operators._base import Crossover
from nas_llm.settings import CrossoverDefaults
from nas_llm.space import Genome


class LayerwiseCrossover(Crossover):
    """Two children of two parents; every row of a child is a parent's row at the same layer.

    The paper does not specify its crossover. ``uniform`` draws the parent of every attention row and of every FFN
    row on its own; ``one_point`` cuts both parents at one block. The second child takes what the first did not.

    Args:
        kind: ``"uniform"`` or ``"one_point"``.

    Raises:
        ConfigError: If ``kind`` is neither.
    """

    def __init__(self, kind: str = CrossoverDefaults.kind) -> None:
        if kind not in ("uniform", "one_point"):
            raise ConfigError(f"crossover must be uniform or one_point, got {kind!r}")
        self.kind = kind

    def __call__(self, first: Genome, second: Genome, *, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Cross two genomes of the same shape."""
        layers = first.num_layers
        if self.kind == "uniform":
            attn, mlp = rng.random((2, layers, 1)) < 0.5
        else:
            attn = mlp = np.arange(layers)[:, None] < rng.integers(1, max(layers, 2))
        return (
            first.with_masks(
                np.where(attn, first.attn_mask, second.attn_mask),
                np.where(mlp, first.mlp_mask, second.mlp_mask),
            ),
            second.with_masks(
                np.where(attn, second.attn_mask, first.attn_mask),
                np.where(mlp, second.mlp_mask, first.mlp_mask),
            ),
        )
