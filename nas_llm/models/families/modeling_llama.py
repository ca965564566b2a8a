"""Llama whose layers differ in size, as transformers' ``per_layer_config`` says; needs nothing but transformers.

Each layer takes ``num_attention_heads``, ``num_key_value_heads`` and ``intermediate_size`` from its own entry; a
sublayer named in ``skip`` ("attention", "mlp") has no weights and adds nothing. Heads keep the dense model's
``head_dim``, and so the softmax scale and the rotary frequencies. Where they keep fewer channels, ``qk_head_dim`` and
``v_head_dim`` say how many, and the buffer ``kept_units`` says which rotary pairs.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    eager_attention_forward,
)


@strict
class NasLlamaConfig(LlamaConfig):
    """Llama configuration with ``per_layer_config``."""

    model_type = "nas_llama"

    def validate_architecture(self):
        """Accept any head count: heads keep their explicit ``head_dim``."""

    def validate_rope(self):
        """Check the rotary parameters in the configuration of one layer: some types ask for the number of heads."""
        LlamaConfig.validate_rope(self.per_layer_config[0])


# Modules of a sublayer that leave with it: norms before and behind it.
ATTENTION_NORMS = ("input_layernorm",)
MLP_NORMS = ("post_attention_layernorm",)


class NasLlamaAttention(LlamaAttention):
    """Llama attention whose heads keep some channels of q and k, and some of v and o.

    Buffer:
        kept_units: ``K x n``, the rotary pairs that each KV head and its query heads keep, by their place in the
            tables; channels that are not turned stand behind them, in the weights as in the buffer.
    """

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        self.qk_head_dim, self.v_head_dim = config.qk_head_dim, config.v_head_dim
        self.num_pairs = config.qk_head_dim - config.kept_units
        bias = self.q_proj.bias is not None
        self.q_proj = nn.Linear(config.hidden_size, heads * self.qk_head_dim, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, groups * self.qk_head_dim, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, groups * self.v_head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.v_head_dim, config.hidden_size, bias=self.o_proj.bias is not None)
        self.register_buffer("kept_units", torch.zeros(groups, config.kept_units, dtype=torch.int64))
        # Of the configuration class: a stray key of a config.json says nothing.
        window = config.sliding_window if "sliding_window" in LlamaConfig.__dataclass_fields__ else None
        # Where windows differ from layer to layer, the attention says its own.
        self.window = getattr(self, "sliding_window", window)

    def forward(
        self, hidden_states, position_embeddings=None, attention_mask=None, past_key_values=None, cache=None, **kwargs
    ):
        """Attend as the dense model does, with the channels that are there."""
        shape = hidden_states.shape[:-1]
        query, key, value = (
            projection(hidden_states).view(*shape, -1, width).transpose(1, 2)
            for projection, width in (
                (self.q_proj, self.qk_head_dim),
                (self.k_proj, self.qk_head_dim),
                (self.v_proj, self.v_head_dim),
            )
        )
        if getattr(self, "use_rope", True):
            pairs = self.kept_units[:, : self.num_pairs]
            query = self.rotated(query, pairs.repeat_interleave(self.num_key_value_groups, 0), *position_embeddings)
            key = self.rotated(key, pairs, *position_embeddings)
        # transformers is renaming the argument; a cache of continuous batching is the attention function's own.
        if isinstance(cache, Cache):
            past_key_values = cache
        elif cache is not None:
            kwargs["cache"] = cache
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        if self.window is not None:
            kwargs["sliding_window"] = self.window
        # On a CPU torch's fast kernel wants values as wide as keys; a single token gains nothing by it.
        kept, missing = value.shape[-1], key.shape[-1] - value.shape[-1]
        if missing and self.config._attn_implementation == "sdpa" and value.device.type == "cpu" and query.shape[2] > 1:
            query, key, value = (
                nn.functional.pad(states, (0, max(0, more)))
                for states, more in ((query, -missing), (key, -missing), (value, missing))
            )
        dropout = self.attention_dropout if self.training else 0.0
        mixed, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs
        )
        return self.o_proj(mixed[..., :kept].reshape(*shape, -1).contiguous()), weights

    def rotated(self, states, pairs, cos, sin):
        """Turn ``B x heads x T x width`` by the angles of each head's own pairs, ``heads x n``."""
        cos, sin = (table[..., pairs].transpose(1, 2) for table in (cos, sin))
        count = pairs.shape[1]
        first, second, rest = states.split([count, count, states.shape[-1] - 2 * count], dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


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


class AbsentMLP(nn.Module):
    """No FFN: nothing is added."""

    def forward(self, hidden_states):
        """Zeros like the hidden states."""
        return torch.zeros_like(hidden_states)


class NasLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama block whose sublayers may be missing.

    Args:
        config: This layer's own configuration.
        layer_idx: Its number, and its slot in the KV cache.
    """

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        if getattr(config, "qk_head_dim", None):
            self.self_attn = NasLlamaAttention(config, layer_idx)
        if "attention" in config.skip:
            self.self_attn = AbsentAttention(layer_idx)
        if "mlp" in config.skip:
            self.mlp = AbsentMLP()
        for sublayer, norms in (("attention", ATTENTION_NORMS), ("mlp", MLP_NORMS)):
            for norm in norms if sublayer in config.skip else ():
                setattr(self, norm, nn.Identity())


class NasLlamaModel(LlamaModel):
    """Llama trunk built layer by layer from ``config.per_layer_config``."""

    config_class = NasLlamaConfig
    _no_split_modules = ["NasLlamaDecoderLayer"]

    def __init__(self, config):
        # Settles the attention implementation, which the layers' configurations then have, too.
        super(LlamaModel, self).__init__(config)
        # What is around the layers: sizes of theirs are not known to the configuration as a whole.
        around = config.per_layer_config[0]
        around.num_hidden_layers = 0
        super().__init__(around)
        self.config = config
        self.layers = nn.ModuleList()
        for index, layer_config in enumerate(config.per_layer_config):
            layer = NasLlamaDecoderLayer(_with_skip(layer_config), index)
            # The attention implementation may be changed later, on the model's own configuration.
            layer.self_attn.config = config
            self.layers.append(layer)
        self.post_init()


class NasLlamaForCausalLM(LlamaForCausalLM):
    """Llama causal LM over :class:`NasLlamaModel`."""

    config_class = NasLlamaConfig
    _no_split_modules = ["NasLlamaDecoderLayer"]

    def __init__(self, config):
        super(LlamaForCausalLM, self).__init__(config)
        self.model = NasLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class NasLlamaForSequenceClassification(GenericForSequenceClassification, LlamaPreTrainedModel):
    """Llama with a classification head over :class:`NasLlamaModel`."""

    config_class = NasLlamaConfig
    _no_split_modules = ["NasLlamaDecoderLayer"]

    def __init__(self, config):
        super(GenericForSequenceClassification, self).__init__(config)
        self.num_labels = config.num_labels
        self.model = NasLlamaModel(config)
        self.score = nn.Linear(config.hidden_size, self.num_labels, bias=False)
        self.post_init()


def _with_skip(config):
    if not hasattr(config, "skip"):
        config.skip = []
    return config


CONFIG_CLASS, MODEL_CLASS, LAYER_CLASS = NasLlamaConfig, NasLlamaForCausalLM, NasLlamaDecoderLayer
AUTO_CLASSES = {"AutoModel": NasLlamaModel, "AutoModelForSequenceClassification": NasLlamaForSequenceClassification}
