"""Llama and models of the same architecture: RMSNorm, rotary positions, grouped KV heads, gated FFN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from nas_llm.models._threads import one_thread
from nas_llm.models.families._base import Block, BlockNames, FamilyAdapter
from nas_llm.models.families._llama_block import BlockTraits, LlamaBlock
from nas_llm.models.families._modeling import modeling_template
from nas_llm.space import Architecture


class LlamaAdapter(FamilyAdapter):
    """Llama, SmolLM and Mistral; a family of other models with the same modules is a subclass.

    Attributes:
        renames: For each model type, how the package's modelling file of Llama becomes the type's own: see
            :func:`nas_llm.models.modeling_template`.
        traits_known: Model types of which :meth:`traits` holds, so that their blocks run in a form of fewer passes.
    """

    name: ClassVar[str] = "llama"
    model_types: ClassVar[tuple[str, ...]] = ("llama", "mistral")
    renames: ClassVar[Mapping[str, tuple[tuple[str, str], ...]]] = {
        "llama": (),
        "mistral": (("Llama", "Mistral"), ("llama", "mistral")),
    }
    traits_known: ClassVar[tuple[str, ...]] = model_types
    names: ClassVar[BlockNames] = BlockNames(
        q="self_attn.q_proj",
        k="self_attn.k_proj",
        v="self_attn.v_proj",
        o="self_attn.o_proj",
        fc1=("mlp.gate_proj", "mlp.up_proj"),
        fc2="mlp.down_proj",
        attn_norm="input_layernorm",
        mlp_norm="post_attention_layernorm",
    )

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense Llama or Mistral."""
        attention_bias = _flag(config, "attention_bias")
        return Architecture(
            family=self.name,
            num_layers=config.num_hidden_layers,
            hidden_size=config.hidden_size,
            num_heads=config.num_attention_heads,
            num_kv_heads=config.num_key_value_heads,
            # Configurations of sister families may leave it to be computed.
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            vocab_size=config.vocab_size,
            gated_mlp=True,
            qkv_bias=attention_bias,
            o_bias=attention_bias,
            mlp_bias=_flag(config, "mlp_bias"),
            norm_parameters=config.hidden_size,
            norm_outside=False,
            whole_heads=self.whole_heads,
            final_norm=True,
            tied_embeddings=bool(config.tie_word_embeddings),
            embedding_size=config.hidden_size,
            position_parameters=0,
            max_positions=getattr(config, "sliding_window", None) or config.max_position_embeddings,
        )

    def layers(self, model: PreTrainedModel) -> nn.ModuleList:
        """The decoder blocks."""
        layers: nn.ModuleList = model.model.layers
        return layers

    def outer(self, model: PreTrainedModel) -> nn.ModuleDict:
        """Token embedding, rotary tables, final norm and LM head."""
        trunk = model.model
        return nn.ModuleDict(
            {"embed": trunk.embed_tokens, "rotary": trunk.rotary_emb, "norm": trunk.norm, "lm_head": model.lm_head}
        )

    def embed(self, outer: nn.ModuleDict, ids: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Token embeddings, and the rotary tables of positions 0..T-1."""
        hidden = outer["embed"](ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        with one_thread():
            rotary = outer["rotary"](hidden, positions)
        # No mask: full windows under transformers' sdpa attention are plain causal.
        return hidden, {"position_embeddings": rotary, "attention_mask": None}

    def finish(self, outer: nn.ModuleDict, hidden: Tensor) -> Tensor:
        """The final norm."""
        normed: Tensor = outer["norm"](hidden)
        return normed

    def attention_sizes(self, architecture: Architecture, kv_groups: int) -> dict[str, Any]:
        """Head counts under the family's names."""
        return {
            "num_key_value_heads": kv_groups,
            "num_attention_heads": kv_groups * architecture.heads_per_group,
        }

    def mlp_sizes(self, ffn_channels: int) -> dict[str, Any]:
        """FFN width under the family's name."""
        return {"intermediate_size": ffn_channels}

    def block(self, config: PretrainedConfig, state: dict[str, Tensor], layer: int = 0) -> Block:
        """A sliced block, of the package's own model types in a form of fewer passes."""
        if config.model_type not in self.traits_known:
            # Modules of the same names need not compute the same.
            return super().block(config, state, layer)
        block = LlamaBlock(self.traits(config, layer), self.names, self.architecture(config).head_dim, state)
        return self.at_layer(block, config, layer)

    def added(self, config: PretrainedConfig, block: nn.Module, outputs: Tensor, *, attention: bool) -> Tensor:
        """The outputs, normed and times their factor as the traits say."""
        if config.model_type not in self.traits_known:
            return super().added(config, block, outputs, attention=attention)
        traits = self.traits(config, 0)
        if traits.out_norms is not None:
            outputs = block.get_submodule(traits.out_norms[0 if attention else 1])(outputs)
        return outputs if traits.residual == 1.0 else outputs * traits.residual

    def traits(self, config: PretrainedConfig, layer: int) -> BlockTraits:
        """In what a block of this family differs from Llama's.

        Args:
            config: The dense model's.
            layer: Number of the block.
        """
        name = getattr(config, "hidden_act", None) or config.hidden_activation
        return BlockTraits(
            eps=float(config.rms_norm_eps),
            activation=functional.silu if name == "silu" else ACT2FN[name],
            scaling=self.architecture(config).head_dim ** -0.5,
        )

    def modeling_source(self, model_type: str) -> str:
        """The modelling file of Llama, renamed."""
        return modeling_template("modeling_llama.py", self.renames[model_type])


def longest_full_window(config: PretrainedConfig) -> int:
    """Longest window that plain causal attention covers, where some layers, or all, see a sliding window."""
    window = config.sliding_window if "sliding_attention" in config.layer_types else None
    return int(window or config.max_position_embeddings)


def _flag(config: PretrainedConfig, name: str) -> bool:
    """A flag of the configuration, where its model asks for it: any ``config.json`` may hold any key."""
    return name in {field.name for field in fields(config)} and bool(getattr(config, name))
