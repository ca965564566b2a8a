"""Importance of every searchable unit, as the operators see it: plain numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nas_llm.errors import SpaceError
from nas_llm.space._attention import AttentionLayout, BoolArray

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UnitScores:
    """Scores of all units; only their order inside one layer, or inside one head, is used.

    Args:
        attn: ``L x units`` float, larger = rather inherited; in mode ``kv_group`` there are K units.
        mlp: ``L x P`` float, larger = rather inherited.
        layout: Of the rows of ``attn``; default ``kv_group``.
        groups: ``L x K`` float, of whole KV heads, where the units are inside them; default: the sums over their units.

    Raises:
        SpaceError: If the arrays are not 2-d and finite with the same number of rows, or do not fit the layout.
    """

    attn: FloatArray
    mlp: FloatArray
    layout: AttentionLayout = None  # type: ignore[assignment]
    groups: FloatArray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        attn = np.asarray(self.attn)
        if self.layout is None and attn.ndim == 2:
            object.__setattr__(self, "layout", AttentionLayout("kv_group", attn.shape[1]))
        if attn.ndim == 2 and attn.shape[1] != self.layout.units:
            raise SpaceError(f"attn scores have {attn.shape[1]} units, {self.layout.mode} has {self.layout.units} here")
        if self.groups is None and attn.ndim == 2:
            groups = attn.reshape(len(attn), self.layout.num_kv_heads, -1).sum(-1)
            if self.layout.axes:
                groups = sum(self.layout.of(axis, attn).sum(-1) for axis in self.layout.axes)
            object.__setattr__(self, "groups", groups)
        for name in ("attn", "mlp", "groups"):
            scores = np.array(getattr(self, name), dtype=np.float64, order="C", copy=True)
            if scores.ndim != 2 or not np.isfinite(scores).all():
                raise SpaceError(f"{name} scores must be a finite 2-d array")
            scores.flags.writeable = False
            object.__setattr__(self, name, scores)
        if len(self.attn) != len(self.mlp):
            raise SpaceError(f"attn scores have {len(self.attn)} layers and mlp scores {len(self.mlp)}")

    def attn_ranks(self, layer: int) -> FloatArray:
        """``units`` ranks of a layer's attention in (0, 1], 1 = most important; ties go to the lower index.

        Units inside heads are ranked among those of their own head and kind: all heads keep equally many of a kind.
        """
        scores = self.attn[layer]
        if not self.layout.axes:
            return _ranks(scores)
        ranks = np.empty(len(scores))
        for axis in self.layout.axes:
            # A view: the units of an axis stand together.
            own = self.layout.of(axis, ranks)
            for head, row in enumerate(self.layout.of(axis, scores)):
                for span in axis.spans:
                    own[head, span] = _ranks(row[span])
        return ranks

    def group_ranks(self, layer: int) -> FloatArray:
        """``K`` ranks of a layer's whole KV heads in (0, 1], 1 = most important; ties go to the lower index."""
        return _ranks(self.groups[layer])

    def mlp_ranks(self, layer: int) -> FloatArray:
        """``P`` ranks of a layer's FFN channels in (0, 1], 1 = most important; ties go to the lower index."""
        return _ranks(self.mlp[layer])

    def top_attn(self, layer: int, count: int, widths: Sequence[int] = ()) -> BoolArray:
        """A row of the ``count`` most important KV heads.

        Args:
            layer: The layer.
            count: KV heads.
            widths: For each kind of unit inside heads the channels that every head keeps, the most important ones;
                default: all.
        """
        layout, heads = self.layout, _top(self.groups[layer], count)
        if not layout.axes:
            return heads
        units = []
        for axis, width in zip(layout.axes, widths or (layout.head_dim,) * len(layout.axes), strict=True):
            kept = np.zeros((layout.num_kv_heads, axis.units), dtype=bool)
            scores = layout.of(axis, self.attn[layer])
            for head in np.flatnonzero(heads):
                for span, wanted in zip(axis.spans, axis.counts(int(width)), strict=True):
                    kept[head, span] = _top(scores[head, span], wanted)
            units.append(kept)
        return layout.row(tuple(units))

    def top_mlp(self, layer: int, count: int) -> BoolArray:
        """``P`` mask of the ``count`` most important FFN channels."""
        return _top(self.mlp[layer], count)

    def digest(self) -> str:
        """Content hash, 32 hex digits."""
        inside = (repr(self.layout).encode() + self.groups.tobytes()) if self.layout.axes else b""
        return hashlib.blake2b(self.attn.tobytes() + self.mlp.tobytes() + inside, digest_size=16).hexdigest()

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        with path.open("wb") as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Write as ``.npz`` to an open file."""
        layout = self.layout
        sizes = [layout.num_kv_heads, layout.head_dim, layout.rotary_dim]
        inside = {"groups": self.groups, "mode": np.array(layout.mode), "sizes": np.array(sizes)} if layout.axes else {}
        np.savez_compressed(file, attn=self.attn, mlp=self.mlp, **inside)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> UnitScores:
        """Read what :meth:`save` wrote."""
        with np.load(path) as arrays:
            if "mode" not in arrays:
                return cls(arrays["attn"], arrays["mlp"])
            layout = AttentionLayout(str(arrays["mode"]), *arrays["sizes"].tolist())
            return cls(arrays["attn"], arrays["mlp"], layout, arrays["groups"])


def _ranks(scores: FloatArray) -> FloatArray:
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = 1.0 - np.arange(len(scores)) / len(scores)
    return ranks


def _top(scores: FloatArray, count: int) -> BoolArray:
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask
