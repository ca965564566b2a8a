"""Gemma 3, text: norms before and behind each sublayer, of queries and of keys; windows in most layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from nas_llm.models._threads import one_thread
from nas_llm.models.families._llama import LlamaAdapter, longest_full_window
from nas_llm.models.families._llama_block import BlockTraits
from nas_llm.space import Architecture


class Gemma3Adapter(LlamaAdapter):
    """Gemma 3's text models; heads stay whole, because queries and keys are normed."""

    name: ClassVar[str] = "gemma3"
    model_types: ClassVar[tuple[str, ...]] = ("gemma3_text",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {
        "gemma3_text": (
            ('("input_layernorm",)', '("input_layernorm", "post_attention_layernorm")'),
            (
                'MLP_NORMS = ("post_attention_layernorm",)',
                'MLP_NORMS = ("pre_feedforward_layernorm", "post_feedforward_layernorm")',
            ),
            ("LlamaConfig", "Gemma3TextConfig"),
            ("LlamaModel", "Gemma3TextModel"),
            ("Llama", "Gemma3"),
            ("nas_llama", "nas_gemma3_text"),
            ("llama", "gemma3"),
        )
    }
    names: ClassVar = replace(
        LlamaAdapter.names,
        mlp_norm="pre_feedforward_layernorm",
        attn_more=("self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"),
        mlp_more=("post_feedforward_layernorm",),
    )
    whole_heads: ClassVar[bool] = True

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense Gemma 3."""
        sizes = super().architecture(config)
        return replace(
            sizes,
            mlp_bias=False,
            attn_norm_parameters=config.hidden_size + 2 * sizes.head_dim,
            mlp_norm_parameters=config.hidden_size,
            max_positions=longest_full_window(config),
        )

    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Scaled token embeddings, and the rotary tables of each type of layer."""
        hidden = outer["embed"](ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        with one_thread():
            rotary: Any = outer["rotary"]
            tables = {kind: rotary(hidden, positions, kind) for kind in sorted(rotary.layer_types)}
        return hidden, {"position_embeddings": tables, "attention_mask": None}

    def layer_context(self, config: PretrainedConfig, context: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
        """The rotary tables of the layer's own type."""
        tables = context["position_embeddings"]
        return {**context, "position_embeddings": tables[config.layer_types[layer]]}

    def traits(self, config: PretrainedConfig, layer: int) -> BlockTraits:
        """Norms everywhere, which multiply by one more than their weights."""
        q_norm, k_norm, behind = self.names.attn_more
        return replace(
            super().traits(config, layer),
            scaling=config.query_pre_attn_scalar**-0.5,
            centred=True,
            qk_norms=(q_norm, k_norm),
            out_norms=(behind, self.names.mlp_more[0]),
        )
