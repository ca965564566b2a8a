#!/usr/bin/env bash
# Good guess:   a prompt can be given in chunks: the cache of the first chunk and the tokens of the second give the
#               logits of the whole prompt. (So it is in Llama, LFM2, Mamba-2, Granite 4 and Qwen3.5.)
# What happens: in Mamba (1) and in Jamba, which uses the same mixer, a second chunk of more than one token does
#               not start from the state of the first (nor from an empty one): logits are far off, with no warning.
#               Chunks of one token are exact.
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
from transformers import Mamba2Config, Mamba2ForCausalLM, MambaConfig, MambaForCausalLM

transformers.logging.set_verbosity_error()
torch.set_grad_enabled(False)
sizes = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
ids = torch.randint(3, 64, (1, 12), generator=torch.Generator().manual_seed(0))


def gap(model: torch.nn.Module, chunks: list[int]) -> float:
    """Largest difference of logits between the whole prompt and the prompt in chunks."""
    torch.manual_seed(0)
    whole, parts, cache, start = model(ids).logits, [], {}, 0
    for count in chunks:
        out = model(ids[:, start : start + count], use_cache=True, **cache)
        name = "cache" if "cache" in out else "cache_params"
        cache, start = {name: out[name]}, start + count
        parts.append(out.logits)
    return float((torch.cat(parts, 1) - whole).abs().max())


def scaled(model: torch.nn.Module) -> torch.nn.Module:
    for weight in model.parameters():
        if weight.dim() >= 2:
            weight.mul_(5)
    return model.eval()


torch.manual_seed(0)
first = scaled(MambaForCausalLM(MambaConfig(**sizes)))
second = scaled(Mamba2ForCausalLM(Mamba2Config(**sizes, num_heads=8, head_dim=8, n_groups=1)))
print("transformers", transformers.__version__)
seen = {
    "Mamba, 12 x 1": gap(first, [1] * 12),
    "Mamba, 6 + 6 x 1": gap(first, [6] + [1] * 6),
    "Mamba, 6 + 6": gap(first, [6, 6]),
    "Mamba-2, 6 + 6": gap(second, [6, 6]),
}
for name, value in seen.items():
    print(f"{name}: largest difference of logits {value:.2g}")
assert seen["Mamba, 12 x 1"] < 0.01 and seen["Mamba, 6 + 6 x 1"] < 0.01 and seen["Mamba-2, 6 + 6"] < 0.01
assert seen["Mamba, 6 + 6"] > 1
print("as described: a second chunk of several tokens is silently wrong in Mamba")
PY
