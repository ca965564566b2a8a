"""Llama whose layers differ in size, as transformers' ``per_layer_config`` says; needs nothing but transformers.

Each layer takes ``num_attention_heads``, ``num_key_value_heads`` and ``intermediate_size`` from its own entry; a
sublayer named in ``skip`` ("attention", "mlp") is not there at all. Heads keep the dense model's ``head_dim``, and so
the softmax scale and the rotary frequencies.
"""

from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaModel,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
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


class NasLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama block whose sublayers may be missing.

    Args:
        config: This layer's own configuration.
        layer_idx: Its slot in the KV cache; blocks without attention have none.
    """

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        if "attention" in config.skip:
            self.self_attn = self.input_layernorm = None
        if "mlp" in config.skip:
            self.mlp = self.post_attention_layernorm = None

    def forward(self, hidden_states, **kwargs):
        """Run the sublayers that are there."""
        if self.self_attn is not None:
            hidden_states = hidden_states + self.self_attn(self.input_layernorm(hidden_states), **kwargs)[0]
        if self.mlp is not None:
            hidden_states = hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states


class NasLlamaModel(LlamaModel):
    """Llama trunk built layer by layer from ``config.per_layer_config``."""

    config_class = NasLlamaConfig
    _no_split_modules = ["NasLlamaDecoderLayer"]

    def __init__(self, config):
        # The parent's constructor would build uniform layers.
        super(LlamaModel, self).__init__(config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList()
        cache_slot = 0
        for layer_config in config.per_layer_config:
            layer = NasLlamaDecoderLayer(_with_skip(layer_config), cache_slot)
            if layer.self_attn is not None:
                # The attention implementation may be changed later, on the model's own configuration.
                layer.self_attn.config = config
                cache_slot += 1
            self.layers.append(layer)
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        # As in validate_rope.
        self.rotary_emb = LlamaRotaryEmbedding(config=config.per_layer_config[0])
        self.gradient_checkpointing = False
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
