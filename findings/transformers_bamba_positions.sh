#!/usr/bin/env bash
# Good guess:   a forward with a cache and no position_ids goes on where the cache ends, as Llama and the other
#               hybrids do (LFM2, Granite 4, Falcon-H1, Qwen3.5); the cache knows its length (get_seq_length() is
#               right).
# What happens: Bamba starts at position 0 again in every call, so its attention layers rotate by wrong angles and the
#               logits are off, silently. A full attention_mask does not help; position_ids do, and generate() passes
#               them.
# Seen with:    transformers 5.24.0 (5.23.0 alike), torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.24.0
HF_HUB_OFFLINE=1 "$work/venv/bin/python" - <<'PY'
import torch
import transformers
from transformers import BambaConfig, BambaForCausalLM, LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
torch.set_grad_enabled(False)
sizes = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "pad_token_id": 0,
}
mamba = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}
ids = torch.randint(3, 64, (1, 12))


def gap(model: torch.nn.Module, **options: torch.Tensor) -> float:
    whole = model(ids).logits
    cache = model(ids[:, :6], use_cache=True)["cache"]
    assert cache.get_seq_length() == 6
    return float((model(ids[:, 6:], cache=cache, **options).logits - whole[:, 6:]).abs().max())


models = {}
for name, model in {
    "Bamba": BambaForCausalLM(BambaConfig(**sizes, **mamba, attn_layer_indices=[1])),
    "Llama": LlamaForCausalLM(LlamaConfig(**sizes)),
}.items():
    for weight in model.parameters():
        if weight.dim() >= 2:
            weight.mul_(20)
    models[name] = model.eval()
print("transformers", transformers.__version__)
seen = {
    "Llama": gap(models["Llama"]),
    "Bamba": gap(models["Bamba"]),
    "Bamba with the whole attention_mask": gap(models["Bamba"], attention_mask=torch.ones(1, 12, dtype=torch.long)),
    "Bamba with position_ids": gap(models["Bamba"], position_ids=torch.arange(6, 12)[None]),
}
for name, value in seen.items():
    print(f"{name}: largest difference of logits {value:.2g}")
assert seen["Llama"] < 0.01 and seen["Bamba with position_ids"] < 0.01
assert seen["Bamba"] > 0.1 and seen["Bamba with the whole attention_mask"] > 0.1
print("as described: Bamba begins at position 0 again")
PY
