"""The decision variable: which KV groups and FFN channels each layer of a subnet inherits."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.settings import ATTENTION_MODES
from nas_llm.space._attention import AttentionLayout, BoolArray, IntArray

if TYPE_CHECKING:
    from nas_llm.space._architecture import Architecture

GENOME_FILE = "genome.bin"
"""Name of the file that an export keeps its genome in."""

_MAGIC, _HEAD_MAGIC = b"NLG1", b"NLG2"
_HEADER = struct.Struct("<4sIII")
# Of masks inside heads, behind the first one: mode, K, d, r.
_HEAD_HEADER = struct.Struct("<BIII")


@dataclass(frozen=True, eq=False, kw_only=True)
class Counts:
    """How many units each layer of a genome inherits.

    Attributes:
        groups: ``L`` ints, KV groups; 0 = no attention.
        widths: For each kind of unit inside heads (see :class:`AttentionLayout`) ``L`` ints, the channels that every
            head keeps; none in mode ``kv_group``.
        channels: ``L`` ints, FFN channels; 0 = no FFN.
    """

    groups: IntArray
    widths: tuple[IntArray, ...]
    channels: IntArray

    def copy(self) -> Counts:
        """The same counts, to be changed."""
        widths = tuple(width.copy() for width in self.widths)
        return Counts(groups=self.groups.copy(), widths=widths, channels=self.channels.copy())

    @property
    def totals(self) -> dict[str, int]:
        """Sums over all layers, as :meth:`CostModel.from_counts` takes them."""
        heads = {}
        if self.widths:
            heads = {
                name: int((self.groups * width).sum())
                for name, width in (("qk_channels", self.widths[0]), ("vo_channels", self.widths[-1]))
            }
        return {
            "groups": int(self.groups.sum()),
            "channels": int(self.channels.sum()),
            "attention_layers": int(np.count_nonzero(self.groups)),
            "ffn_layers": int(np.count_nonzero(self.channels)),
            **heads,
        }


@dataclass(frozen=True, eq=False)
class Genome:
    """All masks of one subnet; immutable, hashable, free of any tensor library.

    Args:
        attn_mask: ``L x units`` bool, what of its attention each layer inherits; the layout says what a unit is. In
            mode ``kv_group`` there are K, and True = the KV head with its g query heads is inherited.
        mlp_mask: ``L x P`` bool, True = the FFN channel is inherited.
        layout: Of the rows of ``attn_mask``; default ``kv_group``.

    A row that is all False removes that sublayer. Both arrays are copied and made read-only.

    Raises:
        SpaceError: If the arrays are not 2-d bool arrays with the same number of rows, or heads of a layer differ in
            size.
    """

    attn_mask: BoolArray
    mlp_mask: BoolArray
    layout: AttentionLayout = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        for name in ("attn_mask", "mlp_mask"):
            mask = np.array(getattr(self, name), order="C", copy=True)
            if mask.ndim != 2 or mask.dtype != np.bool_:
                raise SpaceError(f"{name} must be a 2-d bool array, got {mask.ndim}-d {mask.dtype}")
            mask.flags.writeable = False
            object.__setattr__(self, name, mask)
        if len(self.attn_mask) != len(self.mlp_mask):
            raise SpaceError(
                f"attn_mask has {len(self.attn_mask)} layers and mlp_mask has {len(self.mlp_mask)}; both need L"
            )
        if self.layout is None:
            object.__setattr__(self, "layout", AttentionLayout("kv_group", self.attn_mask.shape[1]))
        self.layout.check(self.attn_mask)

    @classmethod
    def dense(cls, architecture: Architecture, layout: AttentionLayout | None = None) -> Genome:
        """The genome that inherits everything."""
        layers, layout = architecture.num_layers, layout or architecture.attention_layout()
        return cls(
            np.ones((layers, layout.units), dtype=bool),
            np.ones((layers, architecture.intermediate_size), dtype=bool),
            layout,
        )

    def fits(self, architecture: Architecture) -> bool:
        """Whether the masks have the shapes that an architecture needs."""
        shape = architecture.num_layers, architecture.intermediate_size
        return self.mlp_mask.shape == shape and self.layout == architecture.attention_layout(self.layout.mode)

    def like(self, other: Genome) -> bool:
        """Whether another genome has masks of the same shapes and meaning."""
        return self.mlp_mask.shape == other.mlp_mask.shape and self.layout == other.layout

    @property
    def num_layers(self) -> int:
        """L, counting layers whose sublayers are removed."""
        return len(self.attn_mask)

    @cached_property
    def kv_groups(self) -> IntArray:
        """``L`` ints: KV heads of each layer of which something is inherited; 0 = no attention."""
        return np.asarray(self.layout.groups(self.attn_mask).sum(axis=1), dtype=np.int64)

    @cached_property
    def head_widths(self) -> tuple[IntArray, ...]:
        """For each kind of unit inside heads ``L`` ints: channels that every head keeps; none in mode ``kv_group``."""
        return self.layout.widths(self.attn_mask)

    @cached_property
    def cut_layers(self) -> IntArray:
        """Layers whose heads keep some of their channels only, ascending. Without any, ``kv_group`` says all."""
        cut = np.zeros(self.num_layers, dtype=bool)
        for width in self.head_widths:
            cut |= (self.kv_groups > 0) & (width < self.layout.head_dim)
        return np.flatnonzero(cut).astype(np.int64)

    def whole_heads(self) -> Genome:
        """The genome of mode ``kv_group`` with the same KV heads, all of them whole."""
        return Genome(self.layout.groups(self.attn_mask), self.mlp_mask) if self.layout.axes else self

    @cached_property
    def ffn_channels(self) -> IntArray:
        """``L`` ints: inherited FFN channels of each layer; 0 = no FFN."""
        return np.asarray(self.mlp_mask.sum(axis=1), dtype=np.int64)

    @property
    def counts(self) -> Counts:
        """How many units each layer inherits."""
        return Counts(groups=self.kv_groups, widths=self.head_widths, channels=self.ffn_channels)

    def layer_sizes(self) -> tuple[dict[str, int], ...]:
        """Counts by layer: ``L`` mappings with ``kv_groups`` and ``ffn_channels``; 0 = that sublayer is removed.

        Masks inside heads add the channels that every head keeps: ``head_channels``, or ``qk_channels`` and
        ``vo_channels``.
        """
        columns = {"kv_groups": self.kv_groups}
        columns |= {f"{axis.name}_channels": w for axis, w in zip(self.layout.axes, self.head_widths, strict=True)}
        columns["ffn_channels"] = self.ffn_channels
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        return tuple(dict(zip(columns, row, strict=True)) for row in rows)

    def layer_key(self, layer: int) -> bytes:
        """Content of one layer's gene: equal keys mean equal sliced blocks."""
        return self._rows[layer]

    @cached_property
    def _rows(self) -> tuple[bytes, ...]:
        packed = np.hstack([np.packbits(self.attn_mask, axis=1), np.packbits(self.mlp_mask, axis=1)])
        return tuple(row.tobytes() for row in packed)

    def to_bytes(self) -> bytes:
        """Compact form: a header with L, the lengths of the rows and the layout, then the packed masks."""
        lengths = self.num_layers, self.attn_mask.shape[1], self.mlp_mask.shape[1]
        layout = self.layout
        if layout.axes:
            mode = ATTENTION_MODES.index(layout.mode)
            header = _HEADER.pack(_HEAD_MAGIC, *lengths)
            header += _HEAD_HEADER.pack(mode, layout.num_kv_heads, layout.head_dim, layout.rotary_dim)
        else:
            header = _HEADER.pack(_MAGIC, *lengths)
        return header + np.packbits(self.attn_mask).tobytes() + np.packbits(self.mlp_mask).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Genome:
        """Inverse of :meth:`to_bytes`.

        Raises:
            SpaceError: If ``data`` is not a genome.
        """
        if len(data) < _HEADER.size:
            raise SpaceError(f"not a genome: {len(data)} bytes is shorter than its header")
        magic, layers, units, channels = _HEADER.unpack_from(data)
        start, layout = _HEADER.size, None
        if magic == _HEAD_MAGIC and len(data) >= start + _HEAD_HEADER.size:
            mode, heads, head_dim, rotary_dim = _HEAD_HEADER.unpack_from(data, start)
            if mode >= len(ATTENTION_MODES):
                raise SpaceError(f"not a genome: attention mode {mode} is not known to this version")
            layout = AttentionLayout(ATTENTION_MODES[mode], heads, head_dim, rotary_dim)
            start += _HEAD_HEADER.size
        attn_bytes, mlp_bytes = -(-layers * units // 8), -(-layers * channels // 8)
        known = magic == _MAGIC or (layout is not None and layout.axes)
        if not known or len(data) != start + attn_bytes + mlp_bytes:
            raise SpaceError("not a genome: header and length do not agree")
        body = np.frombuffer(data, dtype=np.uint8, offset=start)
        attn = np.unpackbits(body[:attn_bytes], count=layers * units).reshape(layers, units)
        mlp = np.unpackbits(body[attn_bytes:], count=layers * channels).reshape(layers, channels)
        return cls(attn.astype(bool), mlp.astype(bool), layout)  # type: ignore[arg-type]

    @cached_property
    def _digest(self) -> str:
        return hashlib.blake2b(self.to_bytes(), digest_size=16).hexdigest()

    def digest(self) -> str:
        """32 hex digits that identify the masks; stable across processes and machines."""
        return self._digest

    def with_masks(self, attn_mask: BoolArray | None = None, mlp_mask: BoolArray | None = None) -> Genome:
        """A genome of the same layout with other masks; None = as they are."""
        return Genome(
            self.attn_mask if attn_mask is None else attn_mask,
            self.mlp_mask if mlp_mask is None else mlp_mask,
            self.layout,
        )

    def with_rows(
        self,
        attn: Iterable[tuple[int, BoolArray]] = (),
        mlp: Iterable[tuple[int, BoolArray]] = (),
    ) -> Genome:
        """A copy in which some layers' masks are exchanged.

        Args:
            attn: Pairs of layer and its new attention mask, a row of ``attn_mask``.
            mlp: Pairs of layer and its new ``P`` mask.
        """
        attn_mask, mlp_mask = self.attn_mask.copy(), self.mlp_mask.copy()
        for layer, mask in attn:
            attn_mask[layer] = mask
        for layer, mask in mlp:
            mlp_mask[layer] = mask
        return self.with_masks(attn_mask, mlp_mask)

    def to_layout(self, architecture: Architecture, layout: AttentionLayout) -> Genome | None:
        """The same subnet in another mode of attention masks; None if that mode has no masks for it.

        Whole KV groups can be said in every mode, one mask for a head's q, k, v and o also as two.

        Args:
            architecture: The dense model.
            layout: The other mode's.
        """
        if layout == self.layout:
            return self
        rows = [_row_in(architecture, layout, row) for row in self.attn_mask]
        found = [row for row in rows if row is not None]
        return Genome(np.stack(found), self.mlp_mask, layout) if len(found) == len(rows) else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genome) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        heads = "".join(
            f", {axis.name}_channels={int((self.kv_groups * width).sum())}"
            for axis, width in zip(self.layout.axes, self.head_widths, strict=True)
        )
        return (
            f"Genome({self.digest()[:8]}, kv_groups={self.kv_groups.sum()}{heads}, "
            f"ffn_channels={self.ffn_channels.sum()})"
        )


def _row_in(architecture: Architecture, layout: AttentionLayout, row: BoolArray) -> BoolArray | None:
    """A row of one mode in another, None if it cannot be said there."""
    channels = architecture.head_channels(row)
    if not layout.axes:
        whole: BoolArray = np.asarray(channels[0].all(-1) & channels[1].all(-1))
        return whole if (whole == channels[0].any(-1)).all() and (whole == channels[1].any(-1)).all() else None
    if len(layout.axes) == 1 and (channels[0] != channels[1]).any():
        return None
    pairs = layout.rotary_dim // 2
    units = [
        part if axis.units == layout.head_dim else np.concatenate([part[:, :pairs], part[:, 2 * pairs :]], axis=1)
        for axis, part in zip(layout.axes, (channels[0], channels[-1]), strict=False)
    ]
    return layout.row(tuple(units))
