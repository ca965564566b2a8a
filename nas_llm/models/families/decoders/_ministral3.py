"""Ministral 3: queries grow with the position, beyond the length that the model was trained at first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.space import Architecture

_ROTATED = "            key = self.rotated(key, pairs, *position_embeddings)\n"
_SCALED = """        query = query * get_llama_4_attn_scale(
            kwargs["position_ids"],
            self.config.rope_parameters.get("llama_4_scaling_beta"),
            self.config.rope_parameters.get("original_max_position_embeddings"),
        ).to(query.dtype)
"""


class Ministral3Adapter(LlamaAdapter):
    """Ministral 3, and Mistral models of the same type.

    Blocks run on windows below the length that the model was trained at first, where queries are as they are.
    """

    name: ClassVar[str] = "ministral3"
    model_types: ClassVar[tuple[str, ...]] = ("ministral3",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {
        "ministral3": (
            ("    eager_attention_forward,\n", "    eager_attention_forward,\n    get_llama_4_attn_scale,\n"),
            (_ROTATED, _ROTATED + _SCALED),
            ("Llama", "Ministral3"),
            ("models.llama", "models.ministral3"),
            ("configuration_llama", "configuration_ministral3"),
            ("modeling_llama", "modeling_ministral3"),
            ("nas_llama", "nas_ministral3"),
        )
    }

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense Ministral 3."""
        first = (config.rope_parameters or {}).get("original_max_position_embeddings")
        sizes = super().architecture(config)
        return replace(sizes, max_positions=min(sizes.max_positions, first or sizes.max_positions))

    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings, the rotary tables, and the positions, by which the modelling file scales queries."""
        hidden, context = super().embed(outer, ids)
        return hidden, {**context, "position_ids": torch.arange(ids.shape[1], device=ids.device)[None]}
