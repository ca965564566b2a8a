"""The set of genomes a search may visit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.settings import ATTENTION_MODES, SpaceDefaults
from nas_llm.space._architecture import Architecture
from nas_llm.space._attention import BoolArray, IntArray
from nas_llm.space._genome import Genome


class SearchSpace:
    """Bounds of every layer's masks and how many sublayers must stay.

    A sublayer that is present keeps between its lower and its upper bound of units; a removed one keeps none. FFN
    counts are multiples of ``ffn_multiple`` (the dense width is always allowed). Which units are kept is free.

    Args:
        architecture: The dense model.
        attention: Unit of attention pruning: ``kv_group`` (whole KV groups), ``head_dim`` (channels inside every head,
            one mask for q, k, v and o) or ``head_dim_split`` (one for q and k, one for v and o); the latter two alone
            leave all KV groups there, together with ``kv_group`` they do not.
        head_multiple: Alignment of the channels that a head keeps; default an eighth of a head. Even, where rotary
            positions turn pairs of channels.
        ffn_multiple: Alignment of kept FFN channels.
        attn_ratio: Lowest and highest kept fraction of a layer's KV groups, and of a head's channels, in (0, 1].
        mlp_ratio: Lowest and highest kept fraction of a layer's FFN channels, in (0, 1].
        min_attn_layers: Attention sublayers that must stay; L forbids removal.
        min_mlp_layers: FFN sublayers that must stay; L forbids removal.
        protected_layers: Layers kept dense.

    Attributes:
        layout: Of attention masks.
        whole_groups: Whether a present layer keeps all of its KV groups.
        attn_low, attn_high: ``L`` ints, bounds of a present layer's KV groups.
        head_low, head_high: ``L`` ints, bounds of the channels that a head keeps.
        mlp_low, mlp_high: ``L`` ints, bounds of a present layer's FFN channels.

    Raises:
        SpaceError: If a bound is out of range, a floor exceeds its ceiling, or a layer does not exist.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        attention: str | Sequence[str] = SpaceDefaults.attention,
        head_multiple: int | None = None,
        ffn_multiple: int = SpaceDefaults.ffn_multiple,
        attn_ratio: tuple[float, float] = SpaceDefaults.attn_ratio,
        mlp_ratio: tuple[float, float] = SpaceDefaults.mlp_ratio,
        min_attn_layers: int | None = None,
        min_mlp_layers: int | None = None,
        protected_layers: Iterable[int] = SpaceDefaults.protected_layers,
    ) -> None:
        layers, groups, channels = architecture.num_layers, architecture.num_kv_heads, architecture.intermediate_size
        if not 1 <= ffn_multiple <= channels:
            raise SpaceError(f"ffn_multiple must be in 1..{channels} (the FFN channels of a block), got {ffn_multiple}")
        for name, (low, high) in (("attn_ratio", attn_ratio), ("mlp_ratio", mlp_ratio)):
            if not 0.0 < low <= 1.0 or not 0.0 < high <= 1.0:
                raise SpaceError(f"{name} must lie in (0, 1], got [{low}, {high}]; removal is set by min_*_layers")
            if low > high:
                raise SpaceError(f"{name} has its floor {low} above its ceiling {high}; give [low, high]")
        self.architecture = architecture
        self.ffn_multiple = ffn_multiple
        self.min_attn_layers = layers if min_attn_layers is None else min_attn_layers
        self.min_mlp_layers = layers if min_mlp_layers is None else min_mlp_layers
        for name, count in (("min_attn_layers", self.min_attn_layers), ("min_mlp_layers", self.min_mlp_layers)):
            if not 0 <= count <= layers:
                raise SpaceError(f"{name} must be in 0..{layers} (the model's layers), got {count}")
        self.protected_layers = frozenset(protected_layers)
        unknown = sorted(layer for layer in self.protected_layers if not 0 <= layer < layers)
        if unknown:
            raise SpaceError(f"protected_layers names layers {unknown}; the model has 0..{layers - 1}")
        modes = attention_modes(attention)
        self.layout = architecture.attention_layout(modes[-1])
        self.whole_groups = modes[0] != "kv_group"
        self.head_multiple = self._head_multiple(head_multiple)
        self.attn_low, self.attn_high = self._bounds(
            groups, (1.0, 1.0) if self.whole_groups else attn_ratio, 1, "attn_ratio"
        )
        self.head_low, self.head_high = self._bounds(
            architecture.head_dim, attn_ratio if self.layout.axes else (1.0, 1.0), self.head_multiple, "attn_ratio"
        )
        self.mlp_low, self.mlp_high = self._bounds(channels, mlp_ratio, ffn_multiple, "mlp_ratio")

    def _head_multiple(self, given: int | None) -> int:
        width, pairs = self.architecture.head_dim, self.layout.rotary_dim > 0
        if given is None:
            return max(1 + pairs, width // 8 // 2 * 2)
        if not 1 <= given <= width:
            raise SpaceError(f"head_multiple must be in 1..{width} (the channels of a head), got {given}")
        if pairs and given % 2:
            raise SpaceError(
                f"head_multiple must be even, because rotary positions turn pairs of channels; got {given}"
            )
        return given

    def _bounds(self, units: int, ratio: tuple[float, float], multiple: int, name: str) -> tuple[IntArray, IntArray]:
        low = -(-int(np.ceil(ratio[0] * units - 1e-9)) // multiple) * multiple
        high = units if ratio[1] >= 1.0 else int(ratio[1] * units + 1e-9) // multiple * multiple
        low, high = max(1, min(low, units)), min(high, units)
        if low > high:
            raise SpaceError(
                f"{name} {list(ratio)} holds no count that is a multiple of {multiple} within 1..{units}; widen it"
            )
        layers = self.architecture.num_layers
        lows, highs = np.full(layers, low, dtype=np.int64), np.full(layers, high, dtype=np.int64)
        protected = sorted(self.protected_layers)
        lows[protected] = highs[protected] = units
        return lows, highs

    def align_ffn(self, layer: int, count: float) -> int:
        """The allowed FFN count of a present layer that is nearest to ``count``."""
        low, high = int(self.mlp_low[layer]), int(self.mlp_high[layer])
        aligned = round(count / self.ffn_multiple) * self.ffn_multiple
        options = {min(max(aligned, low), high)}
        if high % self.ffn_multiple:
            # A ceiling off the grid is the dense width; it competes with the highest multiple below it.
            options |= {high, max(low, high // self.ffn_multiple * self.ffn_multiple)}
        return min(options, key=lambda option: (abs(option - count), -option))

    def ffn_counts(self, layer: int) -> Sequence[int]:
        """All allowed FFN counts of a present layer, ascending."""
        low, high = int(self.mlp_low[layer]), int(self.mlp_high[layer])
        first = -(-low // self.ffn_multiple) * self.ffn_multiple
        counts = list(range(first, high + 1, self.ffn_multiple))
        return sorted({*counts, low, high}) if low % self.ffn_multiple or high % self.ffn_multiple else counts

    def clip_groups(self, layer: int, count: float) -> int:
        """The allowed KV-group count of a present layer that is nearest to ``count``."""
        return int(np.clip(round(count), self.attn_low[layer], self.attn_high[layer]))

    def align_head(self, layer: int, width: float) -> int:
        """The allowed channels of a head in a present layer that are nearest to ``width``."""
        return min(self.head_counts(layer), key=lambda count: (abs(count - width), -count))

    def head_counts(self, layer: int) -> Sequence[int]:
        """All allowed numbers of channels of a head in a present layer, ascending."""
        low, high = int(self.head_low[layer]), int(self.head_high[layer])
        counts = set(range(-(-low // self.head_multiple) * self.head_multiple, high + 1, self.head_multiple))
        return sorted(counts | {high} | ({low} if low == self.architecture.head_dim else set()))

    def removable(self, layer: int) -> bool:
        """Whether this layer's sublayers may be removed at all."""
        return layer not in self.protected_layers

    def violations(self, genome: Genome) -> list[str]:
        """Every way in which a genome lies outside of the space; empty when it is inside."""
        if genome.layout != self.layout:
            return [f"attn_mask has units of mode {genome.layout.mode}, the space those of {self.layout.mode}"]
        found = []
        for axis, widths in zip(self.layout.axes, genome.head_widths, strict=True):
            found += [
                f"attn_mask[{layer}] keeps {width} {axis.name} channels of a head, allowed are "
                f"{', '.join(map(str, self.head_counts(layer)))}"
                for layer, width in enumerate(widths.tolist())
                if genome.kv_groups[layer] and width not in self.head_counts(layer)
            ]
        for name, counts, low, high, least in (
            ("attn_mask", genome.kv_groups, self.attn_low, self.attn_high, self.min_attn_layers),
            ("mlp_mask", genome.ffn_channels, self.mlp_low, self.mlp_high, self.min_mlp_layers),
        ):
            if np.count_nonzero(counts) < least:
                found.append(f"{name} keeps {np.count_nonzero(counts)} sublayers, at least {least} must stay")
            for layer, count in enumerate(counts.tolist()):
                if count == 0 and self.removable(layer):
                    continue
                if not low[layer] <= count <= high[layer]:
                    found.append(f"{name}[{layer}] keeps {count} units, allowed are {low[layer]}..{high[layer]}")
                elif name == "mlp_mask" and count not in self.ffn_counts(layer):
                    found.append(f"mlp_mask[{layer}] keeps {count} channels, not a multiple of {self.ffn_multiple}")
        return found

    def contains(self, genome: Genome) -> bool:
        """Whether a genome lies inside of the space."""
        return not self.violations(genome)

    def extreme_counts(self, *, largest: bool) -> dict[str, int]:
        """Totals of the smallest or largest genome, as :meth:`CostModel.from_counts` takes them."""
        totals: dict[str, int] = {}
        for unit, sublayer, low, high, least in (
            ("groups", "attention_layers", self.attn_low, self.attn_high, self.min_attn_layers),
            ("channels", "ffn_layers", self.mlp_low, self.mlp_high, self.min_mlp_layers),
        ):
            if largest:
                totals[unit], totals[sublayer] = int(high.sum()), len(high)
                continue
            kept = self._fewest_layers(low, least)
            totals[unit], totals[sublayer] = int(low[kept].sum()), len(kept)
            if unit == "groups" and self.layout.axes:
                totals["qk_channels"] = totals["vo_channels"] = int((low[kept] * self.head_low[kept]).sum())
        if largest and self.layout.axes:
            totals["qk_channels"] = totals["vo_channels"] = int((self.attn_high * self.head_high).sum())
        return totals

    def extreme_genome(self, *, largest: bool) -> Genome:
        """The smallest or largest genome, which keeps the first units everywhere."""
        groups, widths, channels = (
            (self.attn_high, self.head_high, self.mlp_high) if largest else (self.attn_low, self.head_low, self.mlp_low)
        )
        layers = self.architecture.num_layers
        attention, ffn = (
            range(layers) if largest else self._fewest_layers(low, least)
            for low, least in ((self.attn_low, self.min_attn_layers), (self.mlp_low, self.min_mlp_layers))
        )
        attn = np.zeros((layers, self.layout.units), dtype=bool)
        mlp = np.zeros((layers, self.architecture.intermediate_size), dtype=bool)
        for layer in attention:
            attn[layer] = self._first_units(int(groups[layer]), int(widths[layer]))
        for layer in ffn:
            mlp[layer, : channels[layer]] = True
        return Genome(attn, mlp, self.layout)

    def _first_units(self, groups: int, width: int) -> BoolArray:
        """A row of the attention mask with the first groups, and the first channels of their heads."""
        if not self.layout.axes:
            return np.arange(self.layout.units) < groups
        units = []
        for axis in self.layout.axes:
            mask = np.zeros((self.architecture.num_kv_heads, axis.units), dtype=bool)
            for span, count in zip(axis.spans, axis.counts(width), strict=True):
                mask[:groups, span.start : span.start + count] = True
            units.append(mask)
        return self.layout.row(tuple(units))

    def _fewest_layers(self, low: IntArray, least: int) -> list[int]:
        """Layers of the smallest genome that have a sublayer whose floors are ``low``."""
        kept = sorted(self.protected_layers)
        free = sorted((layer for layer in range(len(low)) if self.removable(layer)), key=lambda i: int(low[i]))
        return kept + free[: max(0, least - len(kept))]


def attention_modes(attention: str | Sequence[str]) -> tuple[str, ...]:
    """Modes of attention pruning in order: ``kv_group`` first, at most one of those inside heads behind it.

    Raises:
        SpaceError: If one is unknown, or two exclude each other.
    """
    given = [attention] if isinstance(attention, str) else list(attention)
    unknown = [mode for mode in given if mode not in ATTENTION_MODES]
    if unknown or not given:
        raise SpaceError(f"attention must name one or more of {', '.join(ATTENTION_MODES)}, got {attention!r}")
    modes = tuple(mode for mode in ATTENTION_MODES if mode in given)
    if {"head_dim", "head_dim_split"} <= set(modes):
        raise SpaceError("attention cannot be head_dim and head_dim_split at once; name one of them")
    return modes
