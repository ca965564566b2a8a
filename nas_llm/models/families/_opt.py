"""OPT: LayerNorm, biases, learned positions, one FFN input projection, as many KV heads as query heads."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from nas_llm.models.families._base import BlockNames, FamilyAdapter
from nas_llm.models.families._modeling import modeling_template
from nas_llm.space import Architecture


class OPTAdapter(FamilyAdapter):
    """OPT in both forms: norms before the sublayers, or after the residual sum (OPT-350M)."""

    name: ClassVar[str] = "opt"
    model_types: ClassVar[tuple[str, ...]] = ("opt",)
    names: ClassVar[BlockNames] = BlockNames(
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.out_proj",
        fc1=("fc1",),
        fc2="fc2",
        attn_norm="self_attn_layer_norm",
        mlp_norm="final_layer_norm",
    )

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense OPT."""
        width = config.hidden_size
        return Architecture(
            family=self.name,
            num_layers=config.num_hidden_layers,
            hidden_size=width,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_attention_heads,
            head_dim=width // config.num_attention_heads,
            intermediate_size=config.ffn_dim,
            vocab_size=config.vocab_size,
            gated_mlp=False,
            qkv_bias=config.enable_bias,
            o_bias=config.enable_bias,
            mlp_bias=config.enable_bias,
            norm_parameters=2 * width if config.layer_norm_elementwise_affine else 0,
            norm_outside=not config.do_layer_norm_before,
            final_norm=config.do_layer_norm_before and not config._remove_final_layer_norm,
            tied_embeddings=bool(config.tie_word_embeddings),
            embedding_size=config.word_embed_proj_dim,
            # The table has two rows before position 0.
            position_parameters=(config.max_position_embeddings + 2) * width,
            max_positions=config.max_position_embeddings,
        )

    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """The decoder blocks."""
        layers: nn.ModuleList = model.model.decoder.layers
        return layers

    def outer(self, model: PreTrainedModel) -> nn.ModuleDict:
        """Token and position embeddings, projections, final norm and LM head, as far as the model has them."""
        trunk = model.model.decoder
        parts = {
            "embed": trunk.embed_tokens,
            "positions": trunk.embed_positions,
            "project_in": trunk.project_in,
            "project_out": trunk.project_out,
            "norm": trunk.final_layer_norm,
            "lm_head": model.lm_head,
        }
        return nn.ModuleDict({name: part for name, part in parts.items() if part is not None})

    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings plus learned positions 0..T-1."""
        hidden = outer["embed"](ids)
        if "project_in" in outer:
            hidden = outer["project_in"](hidden)
        positions = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        # No mask: full windows under transformers' sdpa attention are plain causal.
        return hidden + outer["positions"](None, position_ids=positions), {"attention_mask": None}

    def finish(self, outer: nn.ModuleDict, hidden: Tensor) -> Tensor:
        """The final norm and the projection to the embedding's width, as far as the model has them."""
        for name in ("norm", "project_out"):
            if name in outer:
                hidden = outer[name](hidden)
        return hidden

    def attention_sizes(self, architecture: Architecture, kv_groups: int) -> dict[str, Any]:
        """Head counts under the family's names."""
        return {"num_attention_heads": kv_groups}

    def mlp_sizes(self, ffn_channels: int) -> dict[str, Any]:
        """FFN width under the family's name."""
        return {"ffn_dim": ffn_channels}

    def modeling_source(self, model_type: str) -> str:
        """The OPT modelling file."""
        return modeling_template("modeling_opt.py")
