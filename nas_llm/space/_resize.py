"""Drawing units, and moving masks to given counts by adding or removing as few of them as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nas_llm.space._attention import BoolArray, IntArray
from nas_llm.space._genome import Genome
from nas_llm.space._scores import FloatArray, UnitScores


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


def resize_attention(
    row: BoolArray,
    scores: UnitScores,
    layer: int,
    *,
    groups: int,
    widths: Sequence[int] = (),
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> BoolArray:
    """An attention mask with so many KV heads, and so many channels of each, nested in the old one as far as it can be.

    Args:
        row: The old mask, a row of any layout.
        scores: Importance of all units, of the same layout.
        layer: Its layer.
        groups: KV heads of the new mask.
        widths: Channels of a head, for each kind of unit inside heads; none in mode ``kv_group``.
        temperature: Softness of the choice, see :func:`weighted_choice`; 0 = by rank alone.
        rng: Source of randomness; not needed at temperature 0.
    """
    layout = scores.layout
    if not layout.axes:
        return resize_mask(row, scores.attn_ranks(layer), groups, temperature=temperature, rng=rng)
    present = layout.groups(row)
    if groups != np.count_nonzero(present):
        present = resize_mask(present, scores.group_ranks(layer), groups, temperature=temperature, rng=rng)
    return exchange_heads(row, scores, layer, present, widths, temperature=temperature, rng=rng)


def exchange_heads(
    row: BoolArray,
    scores: UnitScores,
    layer: int,
    heads: BoolArray,
    widths: Sequence[int],
    *,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
) -> BoolArray:
    """An attention mask inside heads with these KV heads and widths; each head's units are nested in its old ones.

    Args:
        row: The old mask.
        scores: Importance of all units, of the same layout.
        layer: Its layer.
        heads: ``K`` bool, KV heads of the new mask; one that was not there gets its most important units.
        widths: Channels of a head, for each kind of unit.
        temperature: Softness of the choice, see :func:`weighted_choice`; 0 = by rank alone.
        rng: Source of randomness; not needed at temperature 0.
    """
    layout, ranks = scores.layout, scores.attn_ranks(layer)
    units = []
    for axis, width in zip(layout.axes, widths, strict=True):
        old, kept = layout.of(axis, row), np.zeros((layout.num_kv_heads, axis.units), dtype=bool)
        order = layout.of(axis, ranks)
        for head in np.flatnonzero(heads):
            for span, count in zip(axis.spans, axis.counts(int(width)), strict=True):
                before = old[head, span]
                if count == np.count_nonzero(before):
                    kept[head, span] = before
                    continue
                # A head that comes back has nothing to grow from: its best units.
                warm = temperature if before.any() else 0.0
                kept[head, span] = resize_mask(before, order[head, span], count, temperature=warm, rng=rng)
        units.append(kept)
    return layout.row(tuple(units))


def resize_genome(
    genome: Genome,
    *,
    kv_groups: IntArray,
    ffn_channels: IntArray,
    head_widths: Sequence[IntArray] | None = None,
    scores: UnitScores,
    temperature: float,
    rng: np.random.Generator,
) -> Genome:
    """A genome with the given counts, nested layer by layer in the old one; the same object if nothing changes.

    Args:
        genome: The old genome.
        kv_groups: ``L`` wanted KV groups.
        ffn_channels: ``L`` wanted FFN channels.
        head_widths: For each kind of unit inside heads ``L`` wanted channels of a head; default: as they are.
        scores: Importance of all units.
        temperature: Softness of the choice.
        rng: Source of randomness.
    """
    wanted = genome.head_widths if head_widths is None else head_widths
    changed = kv_groups != genome.kv_groups
    for new, old in zip(wanted, genome.head_widths, strict=True):
        changed |= (new != old) & (kv_groups > 0)
    attn = [
        (
            layer,
            resize_attention(
                genome.attn_mask[layer],
                scores,
                layer,
                groups=int(kv_groups[layer]),
                widths=[int(width[layer]) for width in wanted],
                temperature=temperature,
                rng=rng,
            ),
        )
        for layer in np.flatnonzero(changed).tolist()
    ]
    mlp = [
        (layer, resize_mask(genome.mlp_mask[layer], scores.mlp_ranks(layer), count, temperature=temperature, rng=rng))
        for layer, count in enumerate(ffn_channels.tolist())
        if count != genome.ffn_channels[layer]
    ]
    return genome.with_rows(attn=attn, mlp=mlp) if attn or mlp else genome
