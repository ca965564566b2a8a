"""What one row of an attention mask means: whole KV groups, or channels inside every head."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from nas_llm.errors import SpaceError
from nas_llm.settings import ATTENTION_MODES

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
Unit = TypeVar("Unit", np.bool_, np.float64)


@dataclass(frozen=True)
class HeadAxis:
    """A kind of unit inside the heads that has a count of its own.

    Attributes:
        name: ``qk``, ``vo``, or ``head`` where one mask is for both.
        first: Where its units begin in a row; those of a KV head stand together.
        parts: Kinds of units of a head in their order: how many there are, and how many channels each has. A rotary
            pair has two channels, any other unit one.
    """

    name: str
    first: int
    parts: tuple[tuple[int, int], ...]

    @property
    def units(self) -> int:
        """U, units of one head."""
        return sum(count for count, _ in self.parts)

    @cached_property
    def widths(self) -> IntArray:
        """``U`` ints: channels of each unit."""
        return np.repeat([width for _, width in self.parts], [count for count, _ in self.parts]).astype(np.int64)

    @cached_property
    def spans(self) -> tuple[slice, ...]:
        """Where the units of each part are."""
        ends = np.cumsum([count for count, _ in self.parts]).tolist()
        return tuple(slice(end - count, end) for end, (count, _) in zip(ends, self.parts, strict=True))

    def counts(self, width: int) -> tuple[int, ...]:
        """Units of each part that a head of so many channels keeps: the same share of all parts, up to rounding."""
        if len(self.parts) == 1:
            return (width // self.parts[0][1],)
        (pairs, _), (singles, _) = self.parts
        # No more of either kind than there is.
        least, most = max(0, -(-(width - singles) // 2)), min(pairs, width // 2)
        kept = min(max(round(width * pairs / (2 * pairs + singles)), least), most)
        return kept, width - 2 * kept


@dataclass(frozen=True)
class AttentionLayout:
    """How the units of a layer's attention stand in one row of a mask.

    ``kv_group``: K units, a KV head with its g query heads each. ``head_dim`` (the paper's): the channels of every KV
    head, one mask for q, k, v and o. ``head_dim_split``: first the channels of q and k of every KV head, then those of
    v and o. Where rotary positions turn two channels together, ``(i, i + r/2)``, the pair is one unit of q and k; the
    query heads of a KV group share its units. Every head that is there keeps the same number of channels.

    Args:
        mode: One of the three.
        num_kv_heads: K.
        head_dim: d; of no meaning for ``kv_group``.
        rotary_dim: r, the first channels of a head that rotary positions turn; 0 = none.

    Raises:
        SpaceError: If the mode is unknown.
    """

    mode: str
    num_kv_heads: int
    head_dim: int = 0
    rotary_dim: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ATTENTION_MODES:
            raise SpaceError(f"unknown attention mode {self.mode!r}; known are {', '.join(ATTENTION_MODES)}")
        if self.mode == "kv_group" and (self.head_dim or self.rotary_dim):
            object.__setattr__(self, "head_dim", 0)
            object.__setattr__(self, "rotary_dim", 0)

    @cached_property
    def axes(self) -> tuple[HeadAxis, ...]:
        """The kinds of units inside heads; none for ``kv_group``."""
        pairs, rest = self.rotary_dim // 2, self.head_dim - self.rotary_dim
        turned = tuple(part for part in ((pairs, 2), (rest, 1)) if part[0])
        if self.mode == "kv_group":
            return ()
        if self.mode == "head_dim":
            return (HeadAxis("head", 0, turned),)
        first = HeadAxis("qk", 0, turned)
        return first, HeadAxis("vo", self.num_kv_heads * first.units, ((self.head_dim, 1),))

    @property
    def units(self) -> int:
        """Length of a row."""
        return self.num_kv_heads * (sum(axis.units for axis in self.axes) or 1)

    def of(self, axis: HeadAxis, masks: npt.NDArray[Unit]) -> npt.NDArray[Unit]:
        """Units of one axis: ``... x K x U`` of ``... x units``; a view."""
        part = masks[..., axis.first : axis.first + self.num_kv_heads * axis.units]
        return part.reshape(*masks.shape[:-1], self.num_kv_heads, axis.units)

    def groups(self, masks: BoolArray) -> BoolArray:
        """Which KV heads are there at all: ``... x K`` of ``... x units``."""
        return np.asarray(self.of(self.axes[0], masks).any(-1)) if self.axes else masks

    def widths(self, masks: BoolArray) -> tuple[IntArray, ...]:
        """Channels that every head keeps, for each axis: ints of shape ``...``; 0 where no head is."""
        return tuple(
            np.asarray((self.of(axis, masks) @ axis.widths).max(axis=-1), dtype=np.int64) for axis in self.axes
        )

    def check(self, masks: BoolArray) -> None:
        """Refuse masks whose heads differ in size.

        Args:
            masks: ``L x units``.

        Raises:
            SpaceError: Names the layer.
        """
        if masks.shape[-1] != self.units:
            raise SpaceError(f"attn_mask has rows of {masks.shape[-1]} units; {self.mode} has {self.units} here")
        present = self.groups(masks)
        for axis in self.axes:
            other = (self.of(axis, masks).any(-1) != present).any(-1)
            if other.any():
                layer = int(np.flatnonzero(other)[0])
                raise SpaceError(f"attn_mask[{layer}] keeps q and k of other heads than v and o")
        for axis in self.axes:
            for span in axis.spans:
                counts = self.of(axis, masks)[..., span].sum(-1)
                most = counts.max(-1, keepdims=True)
                bad = np.flatnonzero((np.where(present, most, 0) != counts).any(-1))
                if len(bad):
                    raise SpaceError(
                        f"attn_mask[{bad[0]}] keeps {counts[bad[0]].tolist()} {axis.name} units of its heads; all "
                        "heads that are there keep the same number"
                    )

    def channels(self, row: BoolArray) -> tuple[BoolArray, BoolArray]:
        """Channels of q and k, and of v and o, that a row keeps: twice ``K x d`` bool; not for ``kv_group``."""
        first, last = self.axes[0], self.axes[-1]
        qk = self._spread(first, self.of(first, row))
        return qk, qk if first is last else self._spread(last, self.of(last, row))

    def _spread(self, axis: HeadAxis, units: BoolArray) -> BoolArray:
        """``K x d`` channels of ``K x U`` units."""
        if axis.units == self.head_dim:
            return units
        pairs = axis.parts[0][0]
        return np.concatenate([units[:, :pairs], units[:, :pairs], units[:, pairs:]], axis=1)

    def row(self, units: tuple[BoolArray, ...]) -> BoolArray:
        """The row of ``K x U`` units of each axis."""
        return np.concatenate([part.reshape(-1) for part in units])
