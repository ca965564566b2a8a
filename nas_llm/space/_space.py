"""The set of genomes a search may visit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.settings import SpaceDefaults
from nas_llm.space._architecture import Architecture
from nas_llm.space._genome import Genome, IntArray


class SearchSpace:
    """Bounds of every layer's masks and how many sublayers must stay.

    A sublayer that is present keeps between its lower and its upper bound of units; a removed one keeps none. FFN
    counts are multiples of ``ffn_multiple`` (the dense width is always allowed). Which units are kept is free.

    Args:
        architecture: The dense model.
        ffn_multiple: Alignment of kept FFN channels.
        attn_ratio: Lowest and highest kept fraction of a layer's KV groups, in (0, 1].
        mlp_ratio: Lowest and highest kept fraction of a layer's FFN channels, in (0, 1].
        min_attn_layers: Attention sublayers that must stay; L forbids removal.
        min_mlp_layers: FFN sublayers that must stay; L forbids removal.
        protected_layers: Layers kept dense.

    Attributes:
        attn_low, attn_high: ``L`` ints, bounds of a present layer's KV groups.
        mlp_low, mlp_high: ``L`` ints, bounds of a present layer's FFN channels.

    Raises:
        SpaceError: If a bound is out of range, a floor exceeds its ceiling, or a layer does not exist.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
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
        self.attn_low, self.attn_high = self._bounds(groups, attn_ratio, 1, "attn_ratio")
        self.mlp_low, self.mlp_high = self._bounds(channels, mlp_ratio, ffn_multiple, "mlp_ratio")

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

    def removable(self, layer: int) -> bool:
        """Whether this layer's sublayers may be removed at all."""
        return layer not in self.protected_layers

    def violations(self, genome: Genome) -> list[str]:
        """Every way in which a genome lies outside of the space; empty when it is inside."""
        found = []
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
        totals = {}
        for unit, sublayer, low, high, least in (
            ("groups", "attention_layers", self.attn_low, self.attn_high, self.min_attn_layers),
            ("channels", "ffn_layers", self.mlp_low, self.mlp_high, self.min_mlp_layers),
        ):
            if largest:
                totals[unit], totals[sublayer] = int(high.sum()), len(high)
                continue
            kept = sorted(self.protected_layers)
            free = sorted((layer for layer in range(len(low)) if self.removable(layer)), key=lambda i: int(low[i]))
            kept += free[: max(0, least - len(kept))]
            totals[unit], totals[sublayer] = int(low[kept].sum()), len(kept)
        return totals
