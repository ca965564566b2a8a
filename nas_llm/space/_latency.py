"""Predicted latency: what the sublayers of a genome take, looked up in a table of measured times."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.space._genome import Genome
from nas_llm.space._scores import FloatArray


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Seconds of one forward pass, taken apart into its sublayers; all layers of a model share one shape.

    Between the measured sizes, times are interpolated linearly; a removed sublayer takes none.

    Args:
        constant: Seconds of a model without any sublayer: embedding, norms of the stream, LM head, empty blocks.
        kv_groups: Measured numbers of KV groups of an attention sublayer, ascending, the last one K.
        attention: Seconds of an attention sublayer of each of them, never falling.
        ffn_channels: Measured numbers of FFN channels, ascending, the last one P.
        ffn: Seconds of an FFN sublayer of each of them, never falling.
        settings: What was measured, on what: plain data, ``device`` among it.
        head_widths: Measured channels of a head, ascending, the last one d; empty where whole heads are kept.
        heads: For each kind of unit inside heads the seconds of an attention sublayer of all KV groups whose heads keep
            so many channels of that kind and all of the others, never falling. Savings of two kinds add up.

    Raises:
        SpaceError: If the numbers are no such table.
    """

    constant: float
    kv_groups: tuple[int, ...]
    attention: tuple[float, ...]
    ffn_channels: tuple[int, ...]
    ffn: tuple[float, ...]
    settings: Mapping[str, Any]
    head_widths: tuple[int, ...] = ()
    heads: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, sizes, seconds in (
            ("attention", self.kv_groups, self.attention),
            ("ffn", self.ffn_channels, self.ffn),
            *(("heads", self.head_widths, seconds) for seconds in self.heads),
        ):
            if not sizes or len(sizes) != len(seconds) or sizes[0] < 1 or not _ascending(sizes, strictly=True):
                raise SpaceError(f"latency table: {name} needs one time for each of a few ascending sizes")
            if not all(map(math.isfinite, seconds)) or seconds[0] < 0.0 or not _ascending(seconds):
                raise SpaceError(f"latency table: times of {name} must be finite, at least 0 and never falling")
        if not (math.isfinite(self.constant) and self.constant >= 0.0):
            raise SpaceError(f"latency table: constant must be finite and at least 0, got {self.constant}")

    def __call__(self, genome: Genome) -> float:
        """Predicted seconds of a genome: the constant and each layer's two sublayers."""
        attention = self._attention_seconds[genome.kv_groups]
        if genome.layout.axes:
            if len(genome.layout.axes) != len(self.heads):
                raise SpaceError(
                    f"the latency table has no times of heads of mode {genome.layout.mode}; measure one for this space"
                )
            present = genome.kv_groups > 0
            lost = sum(
                1.0 - np.interp(widths, self.head_widths, seconds) / max(seconds[-1], 1e-12)
                for widths, seconds in zip(genome.head_widths, self.heads, strict=True)
            )
            attention = np.where(present, attention * np.clip(1.0 - lost, 0.0, 1.0), 0.0)
        return float(self.constant + attention.sum() + self._ffn_seconds[genome.ffn_channels].sum())

    @property
    def unit_seconds(self) -> tuple[float, float]:
        """What one more KV group and one more FFN channel take, on average."""
        return _slope(self.kv_groups, self.attention), _slope(self.ffn_channels, self.ffn)

    @property
    def device(self) -> str:
        """Name of the device that it was measured on."""
        return str(self.settings["device"])

    def digest(self) -> str:
        """32 hex digits that identify all numbers and settings."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, for JSON; :meth:`from_dict` is its inverse."""
        found = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if not self.heads:
            del found["heads"], found["head_widths"]
        return found

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyTable:
        """Read what :meth:`to_dict` gave.

        Raises:
            SpaceError: If it is no such table.
        """
        try:
            settings = dict(data["settings"])
            if "device" not in settings:
                raise KeyError("device")
            return cls(
                constant=float(data["constant"]),
                kv_groups=tuple(int(size) for size in data["kv_groups"]),
                attention=tuple(float(seconds) for seconds in data["attention"]),
                ffn_channels=tuple(int(size) for size in data["ffn_channels"]),
                ffn=tuple(float(seconds) for seconds in data["ffn"]),
                settings=settings,
                head_widths=tuple(int(width) for width in data.get("head_widths", ())),
                heads=tuple(tuple(float(seconds) for seconds in axis) for axis in data.get("heads", ())),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SpaceError(f"not a latency table: {type(error).__name__} {error}") from error

    @cached_property
    def _attention_seconds(self) -> FloatArray:
        return _by_count(self.kv_groups, self.attention)

    @cached_property
    def _ffn_seconds(self) -> FloatArray:
        return _by_count(self.ffn_channels, self.ffn)


def _ascending(values: Sequence[float], *, strictly: bool = False) -> bool:
    return all(a < b or (a == b and not strictly) for a, b in pairwise(values))


def _by_count(sizes: Sequence[int], seconds: Sequence[float]) -> FloatArray:
    """Seconds of 0, 1, ..., ``sizes[-1]`` units."""
    counts = np.arange(sizes[-1] + 1)
    return np.asarray(np.where(counts > 0, np.interp(counts, sizes, seconds), 0.0), dtype=np.float64)


def _slope(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    if len(sizes) == 1:
        return seconds[0] / sizes[0]
    return (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])
