"""OPT whose layers differ in size, as transformers' ``per_layer_config`` says; needs nothing but transformers.

Each layer takes ``num_attention_heads`` and ``ffn_dim`` from its own entry; a sublayer named in ``skip`` ("attention",
"mlp") is not there at all. Heads keep the dense model's ``head_dim``, and so the softmax scale; where they keep fewer
channels, ``qk_head_dim`` and ``v_head_dim`` say how many, and the buffer ``kept_units`` says which of q and k. With
norms after the residual sum (``do_layer_norm_before=False``) a removed sublayer leaves its norm behind.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.opt.configuration_opt import OPTConfig
from transformers.models.opt.modeling_opt import (
    OPTAttention,
    OPTDecoder,
    OPTDecoderLayer,
    OPTForCausalLM,
    OPTForSequenceClassification,
    OPTLearnedPositionalEmbedding,
    OPTModel,
    eager_attention_forward,
)


@strict
class NasOPTConfig(OPTConfig):
    """OPT configuration with ``per_layer_config`` and an explicit ``head_dim``."""

    model_type = "nas_opt"
    head_dim: int | None = None

    def validate_architecture(self):
        """Accept any head count: heads keep their explicit ``head_dim``."""


class NasOPTAttention(OPTAttention):
    """OPT attention with fewer heads than ``hidden_size / head_dim``."""

    def __init__(self, config, layer_idx):
        nn.Module.__init__(self)
        self.config = config
        self.embed_dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.dropout = config.attention_dropout
        self.enable_bias = config.enable_bias
        self.layer_idx = layer_idx
        self.head_dim = config.head_dim
        self.is_causal = True
        self.scaling = self.head_dim**-0.5
        kept = getattr(config, "qk_head_dim", None)
        self.qk_head_dim, self.v_head_dim = (kept, config.v_head_dim) if kept else (self.head_dim, self.head_dim)
        if kept:
            self.register_buffer("kept_units", torch.zeros(self.num_heads, config.kept_units, dtype=torch.int64))
        inner, outer = self.num_heads * self.qk_head_dim, self.num_heads * self.v_head_dim
        self.k_proj = nn.Linear(self.embed_dim, inner, bias=self.enable_bias)
        self.v_proj = nn.Linear(self.embed_dim, outer, bias=self.enable_bias)
        self.q_proj = nn.Linear(self.embed_dim, inner, bias=self.enable_bias)
        self.out_proj = nn.Linear(outer, self.embed_dim, bias=self.enable_bias)

    def forward(
        self,
        hidden_states,
        past_key_values=None,
        attention_mask=None,
        output_attentions=False,
        cache=None,
        **kwargs,
    ):
        """Attend as the dense model does, with the channels that are there."""
        shape = hidden_states.shape[:-1]
        query, key, value = (
            states.view(*shape, self.num_heads, -1).transpose(1, 2)
            for states in (
                self.q_proj(hidden_states) * self.scaling,
                self.k_proj(hidden_states),
                self.v_proj(hidden_states),
            )
        )
        # transformers is renaming the argument; a cache of continuous batching is the attention function's own.
        if isinstance(cache, Cache):
            past_key_values = cache
        elif cache is not None:
            kwargs["cache"] = cache
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        # On a CPU torch's fast kernel wants values as wide as keys; a single token gains nothing by it.
        kept, missing = value.shape[-1], key.shape[-1] - value.shape[-1]
        if missing and self.config._attn_implementation == "sdpa" and value.device.type == "cpu" and query.shape[2] > 1:
            query, key, value = (
                nn.functional.pad(states, (0, max(0, more)))
                for states, more in ((query, -missing), (key, -missing), (value, missing))
            )
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=1.0, **kwargs)
        return self.out_proj(mixed[..., :kept].reshape(*shape, -1).contiguous()), weights


class AbsentAttention(nn.Module):
    """No attention: nothing is added, and its layer's slot in the KV cache holds one zero a token.

    Caches tell how far a text has come by the length of their slots, so no slot may stay empty.

    Args:
        layer_idx: Number of the layer.
    """

    def __init__(self, layer_idx):
        super().__init__()
        self.layer_idx = layer_idx

    def forward(self, hidden_states, past_key_values=None, cache=None, **kwargs):
        """Zeros like the hidden states, and no attention weights."""
        held = cache if isinstance(cache, Cache) else past_key_values
        if held is not None:
            slot = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            held.update(slot, slot, self.layer_idx)
        return torch.zeros_like(hidden_states), None


class NasOPTDecoderLayer(OPTDecoderLayer):
    """An OPT block whose sublayers may be missing.

    Args:
        config: This layer's own configuration.
        layer_idx: Its number, and its slot in the KV cache.
    """

    def __init__(self, config, layer_idx):
        # The parent's constructor would derive the head width from the head count.
        super(OPTDecoderLayer, self).__init__()
        self.embed_dim = config.hidden_size
        self.do_layer_norm_before = config.do_layer_norm_before
        self.dropout = config.dropout
        affine = config.layer_norm_elementwise_affine
        attention, mlp = "attention" not in config.skip, "mlp" not in config.skip
        self.self_attn = NasOPTAttention(config, layer_idx) if attention else AbsentAttention(layer_idx)
        self.activation_fn = ACT2FN[config.activation_function]
        self.fc1 = nn.Linear(self.embed_dim, config.ffn_dim, bias=config.enable_bias) if mlp else None
        self.fc2 = nn.Linear(config.ffn_dim, self.embed_dim, bias=config.enable_bias) if mlp else None
        after = not self.do_layer_norm_before
        norms = [
            nn.LayerNorm(self.embed_dim, elementwise_affine=affine) if kept or after else nn.Identity()
            for kept in (attention, mlp)
        ]
        self.self_attn_layer_norm, self.final_layer_norm = norms

    def forward(
        self, hidden_states, attention_mask=None, past_key_values=None, use_cache=False, position_ids=None, **kwargs
    ):
        """Run the sublayers that are there."""
        before = self.do_layer_norm_before
        normed = self.self_attn_layer_norm(hidden_states) if before else hidden_states
        out = self.self_attn(
            hidden_states=normed,
            past_key_values=past_key_values,
            position_ids=position_ids,
            attention_mask=attention_mask,
            **kwargs,
        )[0]
        hidden_states = hidden_states + nn.functional.dropout(out, p=self.dropout, training=self.training)
        if not before:
            hidden_states = self.self_attn_layer_norm(hidden_states)
        if self.fc1 is not None:
            normed = self.final_layer_norm(hidden_states) if before else hidden_states
            out = self.fc2(self.activation_fn(self.fc1(normed)))
            hidden_states = hidden_states + nn.functional.dropout(out, p=self.dropout, training=self.training)
        if not before:
            hidden_states = self.final_layer_norm(hidden_states)
        return hidden_states


class NasOPTDecoder(OPTDecoder):
    """OPT decoder built layer by layer from ``config.per_layer_config``."""

    config_class = NasOPTConfig
    _no_split_modules = ["NasOPTDecoderLayer"]

    def __init__(self, config):
        # The parent's constructor would build uniform layers.
        super(OPTDecoder, self).__init__(config)
        self.dropout = config.dropout
        self.layerdrop = config.layerdrop
        self.padding_idx = config.pad_token_id
        self.max_target_positions = config.max_position_embeddings
        self.vocab_size = config.vocab_size
        width, word_width = config.hidden_size, config.word_embed_proj_dim
        self.embed_tokens = nn.Embedding(config.vocab_size, word_width, self.padding_idx)
        self.embed_positions = OPTLearnedPositionalEmbedding(config.max_position_embeddings, width)
        self.project_out = nn.Linear(width, word_width, bias=False) if word_width != width else None
        self.project_in = nn.Linear(word_width, width, bias=False) if word_width != width else None
        has_norm = config.do_layer_norm_before and not config._remove_final_layer_norm
        affine = config.layer_norm_elementwise_affine
        self.final_layer_norm = nn.LayerNorm(width, elementwise_affine=affine) if has_norm else None
        self.layers = nn.ModuleList()
        for index, layer_config in enumerate(config.per_layer_config):
            layer = NasOPTDecoderLayer(_with_skip(layer_config), index)
            # The attention implementation may be changed later, on the model's own configuration.
            layer.self_attn.config = config
            self.layers.append(layer)
        self.gradient_checkpointing = False
        self.post_init()


class NasOPTModel(OPTModel):
    """OPT trunk over :class:`NasOPTDecoder`."""

    config_class = NasOPTConfig
    _no_split_modules = ["NasOPTDecoderLayer"]

    def __init__(self, config):
        super(OPTModel, self).__init__(config)
        self.decoder = NasOPTDecoder(config)
        self.post_init()


class NasOPTForCausalLM(OPTForCausalLM):
    """OPT causal LM over :class:`NasOPTModel`."""

    config_class = NasOPTConfig
    _no_split_modules = ["NasOPTDecoderLayer"]

    def __init__(self, config):
        super(OPTForCausalLM, self).__init__(config)
        self.model = NasOPTModel(config)
        self.lm_head = nn.Linear(config.word_embed_proj_dim, config.vocab_size, bias=False)
        self.post_init()


class NasOPTForSequenceClassification(OPTForSequenceClassification):
    """OPT with a classification head over :class:`NasOPTModel`."""

    config_class = NasOPTConfig
    _no_split_modules = ["NasOPTDecoderLayer"]

    def __init__(self, config):
        super(OPTForSequenceClassification, self).__init__(config)
        self.num_labels = config.num_labels
        self.model = NasOPTModel(config)
        self.score = nn.Linear(config.word_embed_proj_dim, self.num_labels, bias=False)
        self.post_init()


def _with_skip(config):
    if not hasattr(config, "skip"):
        config.skip = []
    return config


CONFIG_CLASS, MODEL_CLASS, LAYER_CLASS = NasOPTConfig, NasOPTForCausalLM, NasOPTDecoderLayer
AUTO_CLASSES = {"AutoModel": NasOPTModel, "AutoModelForSequenceClassification": NasOPTForSequenceClassification}
