"""A Seed-OSS checkpoint for tests: the weights of the packaged test model with biases on q, k and v."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, SeedOssConfig, SeedOssForCausalLM

from nas_llm.models import resolve_model


def save_seed_oss(directory: Path) -> Path:
    """Write the checkpoint, float32, with the test model's tokenizer."""
    where, _ = resolve_model("tiny-llama")
    llama = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32)
    shared = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "max_position_embeddings rms_norm_eps rope_parameters tie_word_embeddings bos_token_id eos_token_id"
    )
    config = SeedOssConfig(
        **{name: getattr(llama.config, name) for name in shared.split()}, pad_token_id=None, attention_bias=True
    )
    model = SeedOssForCausalLM(config)
    state = model.state_dict() | llama.state_dict()
    generator = torch.Generator().manual_seed(0)
    for name, weight in state.items():
        if name.endswith("bias"):
            weight.normal_(0.0, 0.1, generator=generator)
    model.load_state_dict(state)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(where).save_pretrained(directory)
    return directory
