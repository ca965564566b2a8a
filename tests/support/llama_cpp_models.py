"""Small models with random weights and the packaged tokenizer, one for each trait that llama.cpp has to get right."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    Ministral3Config,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from nas_llm.models import DenseModel, adapter_for

PROMPT = [40, 478, 79, 221, 646, 359, 18, 19, 1]
VOCABULARY = 1024

_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
}
_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 128,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
_GRANITE = {
    "embedding_multiplier": 3.0,
    "attention_multiplier": 0.2,
    "residual_multiplier": 0.4,
    "logits_scaling": 2.0,
}
LLAMA_CPP_CASES: dict[str, PretrainedConfig] = {
    "untied": LlamaConfig(**_SIZES, num_key_value_heads=2, tie_word_embeddings=False),
    "biases": LlamaConfig(**_SIZES, num_key_value_heads=4, attention_bias=True, mlp_bias=True),
    "wide-heads": LlamaConfig(**_SIZES, num_key_value_heads=2, head_dim=32),
    "llama3-rope": LlamaConfig(**_SIZES, num_key_value_heads=2, rope_parameters=_LLAMA_3),
    "linear-rope": LlamaConfig(
        **_SIZES,
        num_key_value_heads=2,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
    ),
    "mistral": MistralConfig(**_SIZES, num_key_value_heads=2, sliding_window=None),
    "qwen2": Qwen2Config(**_SIZES, num_key_value_heads=2),
    "ministral3": Ministral3Config(**_SIZES, num_key_value_heads=2, head_dim=16, rope_parameters=_YARN),
    "granite": GraniteConfig(**_SIZES, **_GRANITE, num_key_value_heads=2),
    "granite-tied": GraniteConfig(**_SIZES, **_GRANITE, num_key_value_heads=2, tie_word_embeddings=True),
}
# Families that llama.cpp runs with one size for all layers.
ALIKE_CASES: dict[str, PretrainedConfig] = {
    "qwen3": Qwen3Config(**_SIZES, num_key_value_heads=2, head_dim=32),
    "qwen3-tied": Qwen3Config(**_SIZES, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True),
    "smollm3": SmolLM3Config(**_SIZES, num_key_value_heads=2, pad_token_id=0),
    "gemma3": Gemma3TextConfig(
        **_SIZES,
        num_key_value_heads=2,
        head_dim=32,
        sliding_window=16,
        layer_types=["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
        query_pre_attn_scalar=32,
    ),
}


def random_model(case: str, tiny: DenseModel, **changes: Any) -> DenseModel:
    """One of them; ``changes`` are to its configuration."""
    known = (LLAMA_CPP_CASES | ALIKE_CASES)[case]
    config = type(known).from_dict({**known.to_dict(), **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        else:
            parameter.data.normal_(0.0, 0.15, generator=generator)
    adapter = adapter_for(config.model_type)
    return DenseModel(
        model=model,
        tokenizer=tiny.tokenizer,
        adapter=adapter,
        architecture=adapter.architecture(config),
        source=case,
        revision="random",
    )
