#!/usr/bin/env bash
# Good guess:   with an explicit head_dim nothing ties the hidden size to the number of heads (q_proj is heads x
#               head_dim by hidden), so hidden size 64 with 3 heads of 16 is a fine model in Llama and in Mistral,
#               whose code is the same.
# What happens: LlamaConfig and Gemma2Config still refuse a hidden size that is no multiple of the heads; Mistral,
#               Qwen2, Qwen3, Granite and SmolLM3 take it. A Llama with 3 of 4 heads left has no stock configuration;
#               renamed to Mistral (no window) it has, and the very weights of that layout load and run.
# Seen with:    transformers 5.24.0, torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.24.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import (
    Gemma2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

transformers.logging.set_verbosity_error()
sizes = {
    "vocab_size": 32, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 3,
    "num_key_value_heads": 1, "head_dim": 16, "pad_token_id": 0,
}


def taken(config_class: type) -> str:
    try:
        config_class(**sizes)
    except Exception as error:  # a validation error of huggingface_hub's own kind
        return str(error).strip().splitlines()[-1].strip()
    return "taken"


print("transformers", transformers.__version__)
kinds = (LlamaConfig, Gemma2Config, MistralConfig, Qwen2Config, Qwen3Config, GraniteConfig, SmolLM3Config)
seen = {kind.__name__: taken(kind) for kind in kinds}
for name, what in seen.items():
    print(f"{name}: {what}")
refused = {name for name, what in seen.items() if "not a multiple" in what}
assert refused == {"LlamaConfig", "Gemma2Config"}
assert all(what == "taken" for name, what in seen.items() if name not in refused)
model = MistralForCausalLM(MistralConfig(**sizes, sliding_window=None)).eval()
print("Mistral's q_proj:", tuple(model.model.layers[0].self_attn.q_proj.weight.shape))
assert model(torch.arange(5)[None]).logits.shape == (1, 5, 32)
print("as described: the rule is Llama's and Gemma 2's alone")
PY
