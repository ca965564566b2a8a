"""The sizes of a dense model: all that the space and the cost model need to know of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nas_llm.errors import SpaceError
from nas_llm.settings import ATTENTION_MODES
from nas_llm.space._attention import AttentionLayout, BoolArray


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a dense decoder-only model, in the symbols of the paper.

    Args:
        family: Adapter name, e.g. ``"llama"``.
        num_layers: L, decoder blocks.
        hidden_size: D, residual width.
        num_heads: H, query heads of a block.
        num_kv_heads: K, key/value heads of a block; divides ``num_heads``.
        head_dim: d, width of one head.
        intermediate_size: P, FFN channels of a block.
        vocab_size: Rows of the token embedding.
        gated_mlp: Whether the FFN has a gate beside its up projection.
        qkv_bias: Whether q, k and v carry a bias.
        o_bias: Whether the attention output projection carries a bias.
        mlp_bias: Whether all FFN projections carry a bias.
        norm_parameters: Parameters of ONE norm (D for RMSNorm, 2D for LayerNorm, 0 without affine).
        norm_outside: Whether norms act on the residual stream (post-norm), and so outlive their sublayer.
        final_norm: Whether a norm follows the last block.
        tied_embeddings: Whether the LM head is the token embedding.
        embedding_size: Width of the token embedding; differs from ``hidden_size`` where the model projects.
        position_parameters: Parameters of a learned position table, 0 with rotary positions.
        max_positions: Longest window that plain causal attention covers.
        attn_norm_parameters: Parameters of further norms that go with an attention: of queries, keys, output.
        mlp_norm_parameters: Likewise of an FFN sublayer.
        whole_heads: Whether heads can only be kept whole: what norms a head cannot do so with a part of it.
        rotary_dim: r, the first channels of a head that rotary positions turn, ``i`` together with ``i + r/2``; default
            the whole head, or none where there is a learned position table.

    Raises:
        SpaceError: If the sizes contradict each other.
    """

    family: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    gated_mlp: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    norm_parameters: int
    norm_outside: bool
    final_norm: bool
    tied_embeddings: bool
    embedding_size: int
    position_parameters: int
    max_positions: int
    attn_norm_parameters: int = 0
    mlp_norm_parameters: int = 0
    whole_heads: bool = False
    rotary_dim: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_layers", "hidden_size", "num_kv_heads", "head_dim", "intermediate_size", "vocab_size"):
            if getattr(self, name) < 1:
                raise SpaceError(f"{name} must be positive, got {getattr(self, name)}")
        if self.rotary_dim is not None and (self.rotary_dim % 2 or not 0 <= self.rotary_dim <= self.head_dim):
            raise SpaceError(f"rotary_dim must be even and at most head_dim ({self.head_dim}), got {self.rotary_dim}")
        if self.num_heads % self.num_kv_heads:
            raise SpaceError(f"num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})")

    @property
    def heads_per_group(self) -> int:
        """g = H / K, query heads that share one KV head."""
        return self.num_heads // self.num_kv_heads

    @property
    def rotary_channels(self) -> int:
        """r, channels of a head that rotary positions turn, as stated or by default."""
        if self.rotary_dim is not None:
            return self.rotary_dim
        return 0 if self.position_parameters else self.head_dim // 2 * 2

    def attention_layout(self, mode: str = "kv_group") -> AttentionLayout:
        """What a row of an attention mask of some mode means here.

        Raises:
            SpaceError: If the mode is unknown, or cuts heads that can only be kept whole.
        """
        if self.whole_heads and mode != "kv_group":
            raise SpaceError(
                f"attention mode '{mode}' keeps parts of heads, and models of family '{self.family}' norm each head "
                "as a whole; take kv_group"
            )
        return AttentionLayout(mode, self.num_kv_heads, self.head_dim, self.rotary_channels)

    def layout_of(self, row: BoolArray) -> AttentionLayout:
        """The layout that a row of an attention mask has, by its length.

        Raises:
            SpaceError: If no mode has rows of this length.
        """
        for mode in ATTENTION_MODES[:1] if self.whole_heads else ATTENTION_MODES:
            layout = self.attention_layout(mode)
            if layout.units == len(row):
                return layout
        raise SpaceError(f"an attention mask of {len(row)} units does not fit {self.num_kv_heads} KV heads")

    def head_channels(self, row: BoolArray) -> tuple[BoolArray, BoolArray]:
        """Channels of q and k, and of v and o, that a row of any mode keeps: twice ``K x d`` bool.

        Raises:
            SpaceError: If no mode has rows of this length.
        """
        layout = self.layout_of(row)
        if layout.axes:
            return layout.channels(row)
        whole = np.repeat(row[:, None], self.head_dim, axis=1)
        return whole, whole

    def of_query_heads(self, channels: BoolArray) -> BoolArray:
        """``H d`` bool: channels of KV heads, ``K x d``, as their query heads have them."""
        return np.repeat(channels, self.heads_per_group, axis=0).reshape(-1)

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, for JSON."""
        return asdict(self)
