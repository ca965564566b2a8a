"""The decision variable: which KV groups and FFN channels each layer of a subnet inherits."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nas_llm.errors import SpaceError

if TYPE_CHECKING:
    from nas_llm.space._architecture import Architecture

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

GENOME_FILE = "genome.bin"
"""Name of the file that an export keeps its genome in."""

_MAGIC = b"NLG1"
_HEADER = struct.Struct("<4sIII")


@dataclass(frozen=True, eq=False)
class Genome:
    """All masks of one subnet; immutable, hashable, free of any tensor library.

    Args:
        attn_mask: ``L x K`` bool, True = the KV head with its g query heads is inherited (mode ``kv_group``).
        mlp_mask: ``L x P`` bool, True = the FFN channel is inherited.

    A row that is all False removes that sublayer. Both arrays are copied and made read-only.

    Raises:
        SpaceError: If the arrays are not 2-d bool arrays with the same number of rows.
    """

    attn_mask: BoolArray
    mlp_mask: BoolArray

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

    @classmethod
    def dense(cls, architecture: Architecture) -> Genome:
        """The genome that inherits everything."""
        layers = architecture.num_layers
        return cls(
            np.ones((layers, architecture.num_kv_heads), dtype=bool),
            np.ones((layers, architecture.intermediate_size), dtype=bool),
        )

    def fits(self, architecture: Architecture) -> bool:
        """Whether the masks have the shapes that an architecture needs."""
        layers = architecture.num_layers
        expected = (layers, architecture.num_kv_heads), (layers, architecture.intermediate_size)
        return (self.attn_mask.shape, self.mlp_mask.shape) == expected

    @property
    def num_layers(self) -> int:
        """L, counting layers whose sublayers are removed."""
        return len(self.attn_mask)

    @cached_property
    def kv_groups(self) -> IntArray:
        """``L`` ints: inherited KV groups of each layer; 0 = no attention."""
        return np.asarray(self.attn_mask.sum(axis=1), dtype=np.int64)

    @cached_property
    def ffn_channels(self) -> IntArray:
        """``L`` ints: inherited FFN channels of each layer; 0 = no FFN."""
        return np.asarray(self.mlp_mask.sum(axis=1), dtype=np.int64)

    def layer_key(self, layer: int) -> bytes:
        """Content of one layer's gene: equal keys mean equal sliced blocks."""
        return self._rows[layer]

    @cached_property
    def _rows(self) -> tuple[bytes, ...]:
        packed = np.hstack([np.packbits(self.attn_mask, axis=1), np.packbits(self.mlp_mask, axis=1)])
        return tuple(row.tobytes() for row in packed)

    def to_bytes(self) -> bytes:
        """Compact form: a header with L, K, P, then the packed masks."""
        header = _HEADER.pack(_MAGIC, self.num_layers, self.attn_mask.shape[1], self.mlp_mask.shape[1])
        return header + np.packbits(self.attn_mask).tobytes() + np.packbits(self.mlp_mask).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Genome:
        """Inverse of :meth:`to_bytes`.

        Raises:
            SpaceError: If ``data`` is not a genome.
        """
        if len(data) < _HEADER.size:
            raise SpaceError(f"not a genome: {len(data)} bytes is shorter than its header")
        magic, layers, groups, channels = _HEADER.unpack_from(data)
        attn_bytes, mlp_bytes = -(-layers * groups // 8), -(-layers * channels // 8)
        if magic != _MAGIC or len(data) != _HEADER.size + attn_bytes + mlp_bytes:
            raise SpaceError("not a genome: header and length do not agree")
        body = np.frombuffer(data, dtype=np.uint8, offset=_HEADER.size)
        attn = np.unpackbits(body[:attn_bytes], count=layers * groups).reshape(layers, groups)
        mlp = np.unpackbits(body[attn_bytes:], count=layers * channels).reshape(layers, channels)
        return cls(attn.astype(bool), mlp.astype(bool))

    @cached_property
    def _digest(self) -> str:
        return hashlib.blake2b(self.to_bytes(), digest_size=16).hexdigest()

    def digest(self) -> str:
        """32 hex digits that identify the masks; stable across processes and machines."""
        return self._digest

    def with_rows(
        self,
        attn: Iterable[tuple[int, BoolArray]] = (),
        mlp: Iterable[tuple[int, BoolArray]] = (),
    ) -> Genome:
        """A copy in which some layers' masks are exchanged.

        Args:
            attn: Pairs of layer and its new ``K`` mask.
            mlp: Pairs of layer and its new ``P`` mask.
        """
        attn_mask, mlp_mask = self.attn_mask.copy(), self.mlp_mask.copy()
        for layer, mask in attn:
            attn_mask[layer] = mask
        for layer, mask in mlp:
            mlp_mask[layer] = mask
        return Genome(attn_mask, mlp_mask)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Genome) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return f"Genome({self.digest()[:8]}, kv_groups={self.kv_groups.sum()}, ffn_channels={self.ffn_channels.sum()})"
