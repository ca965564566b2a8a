#!/usr/bin/env bash
# Good guess:   a forward pass without a cache depends on its input and the weights only. With rope_type "dynamic" the
#               rotary base follows the length of that input.
# What happens: the base follows the longest input so far. After one long input, a middling one (longer than the
#               original context) gets other logits than before, for good, until an input within the original context
#               resets it. Perplexities of windows of different lengths thus depend on the order of the windows.
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
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()
torch.manual_seed(0)
torch.set_grad_enabled(False)
rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
config = LlamaConfig(
    vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=16, rope_parameters=rope,
)
model = LlamaForCausalLM(config).eval()
for weight in model.parameters():
    if weight.dim() == 2:
        weight.mul_(8)
short, middle, long = (torch.randint(3, 64, (1, count)) for count in (12, 24, 200))


def logits(ids: torch.Tensor) -> torch.Tensor:
    return model(ids, use_cache=False).logits


first = logits(middle)
again = logits(middle)
logits(long)
after_long = logits(middle)
logits(short)
after_short = logits(middle)
print("transformers", transformers.__version__)
print("24 tokens twice in a row, largest difference:", float((again - first).abs().max()))
print("24 tokens after 200 tokens:", float((after_long - first).abs().max()))
print("24 tokens after 12 tokens:", float((after_short - first).abs().max()))
assert torch.equal(again, first)
assert (after_long - first).abs().max() > 0.01
assert torch.equal(after_short, first)
print("as described: the same input gives other logits once a longer one has passed")
PY
