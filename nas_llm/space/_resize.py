"""Moving masks to given counts by adding or removing as few units as possible."""

from __future__ import annotations

import numpy as np

from nas_llm.space._genome import BoolArray, Genome, IntArray
from nas_llm.space._scores import FloatArray, UnitScores
from nas_llm.space._weighted_choice import weighted_choice


def resize_mask(
    mask: BoolArray,
    ranks: FloatArray,
    count: int,
    *,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> BoolArray:
    """A mask of ``count`` units that contains, or is contained in, the old one.

    Growing adds absent units of high rank; shrinking drops kept units of low rank.

    Args:
        mask: ``N`` bool, the old mask.
        ranks: ``N`` ranks in (0, 1], 1 = most important.
        count: Units of the new mask, 0..N.
        temperature: Softness of the choice, see :func:`weighted_choice`; 0 = by rank alone.
        rng: Source of randomness; not needed at temperature 0.
    """
    kept = np.flatnonzero(mask)
    new = np.zeros_like(mask)
    if count <= len(kept):
        new[kept[weighted_choice(ranks[kept], count, temperature=temperature, rng=rng)]] = True
        return new
    absent = np.flatnonzero(~mask)
    new[kept] = True
    new[absent[weighted_choice(ranks[absent], count - len(kept), temperature=temperature, rng=rng)]] = True
    return new


def resize_genome(
    genome: Genome,
    *,
    kv_groups: IntArray,
    ffn_channels: IntArray,
    scores: UnitScores,
    temperature: float,
    rng: np.random.Generator,
) -> Genome:
    """A genome with the given counts, nested layer by layer in the old one; the same object if nothing changes.

    Args:
        genome: The old genome.
        kv_groups: ``L`` wanted KV groups.
        ffn_channels: ``L`` wanted FFN channels.
        scores: Importance of all units.
        temperature: Softness of the choice.
        rng: Source of randomness.
    """
    attn = [
        (layer, resize_mask(genome.attn_mask[layer], scores.attn_ranks(layer), count, temperature=temperature, rng=rng))
        for layer, count in enumerate(kv_groups.tolist())
        if count != genome.kv_groups[layer]
    ]
    mlp = [
        (layer, resize_mask(genome.mlp_mask[layer], scores.mlp_ranks(layer), count, temperature=temperature, rng=rng))
        for layer, count in enumerate(ffn_channels.tolist())
        if count != genome.ffn_channels[layer]
    ]
    return genome.with_rows(attn=attn, mlp=mlp) if attn or mlp else genome
