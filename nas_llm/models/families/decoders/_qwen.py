"""Qwen2 and Qwen2.5: biases on q, k and v. Qwen3: norms of queries and keys instead."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.models.families._llama import LlamaAdapter, longest_full_window
from nas_llm.models.families._llama_block import BlockTraits
from nas_llm.space import Architecture


class Qwen2Adapter(LlamaAdapter):
    """Qwen2 and Qwen2.5."""

    name: ClassVar[str] = "qwen2"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {"qwen2": (("Llama", "Qwen2"), ("llama", "qwen2"))}

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense Qwen2."""
        sizes = super().architecture(config)
        return replace(sizes, qkv_bias=True, o_bias=False, mlp_bias=False, max_positions=longest_full_window(config))


class Qwen3Adapter(LlamaAdapter):
    """Qwen3, dense: the norms of queries and keys are shared by all heads of a layer, so heads stay whole."""

    name: ClassVar[str] = "qwen3"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {"qwen3": (("Llama", "Qwen3"), ("llama", "qwen3"))}
    names: ClassVar = replace(LlamaAdapter.names, attn_more=("self_attn.q_norm", "self_attn.k_norm"))
    whole_heads: ClassVar[bool] = True

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense Qwen3."""
        sizes = super().architecture(config)
        return replace(
            sizes,
            mlp_bias=False,
            attn_norm_parameters=2 * sizes.head_dim,
            max_positions=longest_full_window(config),
        )

    def traits(self, config: PretrainedConfig, layer: int) -> BlockTraits:
        """Queries and keys are normed."""
        q_norm, k_norm = self.names.attn_more
        return replace(super().traits(config, layer), qk_norms=(q_norm, k_norm))
