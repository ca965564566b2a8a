#!/usr/bin/env bash
# Good guess:   an adapter that was made and saved without complaint loads again; a specific key of rank_pattern beats
#               a general one, or the order in which they were written decides, before saving as after.
# What happens: the first key that matches wins, in the order of the dict, and adapter_config.json is written with
#               sorted keys. {"q_proj": 8, "layers.1.self_attn.q_proj": 2} gives rank 8 in every layer (the second key
#               is dead), comes back from disk the other way round, asks for rank 2 in layer 1, and the saved weights
#               no longer fit.
# Seen with:    peft 0.21.2, transformers 5.24.0, torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.24.0 peft==0.21.2
HF_HUB_OFFLINE=1 WORK="$work" "$work/venv/bin/python" - <<'PY'
import os

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

transformers.logging.set_verbosity_error()


def dense() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2,
        )
    )


def round_trip(pattern: dict[str, int], name: str) -> tuple[list[int], str]:
    """Ranks of the three layers as made, and what loading the saved adapter says."""
    model = get_peft_model(dense(), LoraConfig(r=4, target_modules=["q_proj"], rank_pattern=pattern))
    ranks = [weight.shape[0] for key, weight in model.named_parameters() if "lora_A" in key]
    model.save_pretrained(f"{os.environ['WORK']}/{name}")
    try:
        PeftModel.from_pretrained(dense(), f"{os.environ['WORK']}/{name}")
    except RuntimeError as error:
        return ranks, "RuntimeError: " + str(error).splitlines()[1].strip()[:140]
    return ranks, "loaded"


print("peft", peft.__version__)
general_first = round_trip({"q_proj": 8, "layers.1.self_attn.q_proj": 2}, "general")
special_first = round_trip({"layers.1.self_attn.q_proj": 2, "q_proj": 8}, "special")
print("general key first:", *general_first)
print("special key first:", *special_first)
assert general_first[0] == [8, 8, 8] and "size mismatch" in general_first[1]
assert special_first == ([8, 2, 8], "loaded")
print("as described: saving sorts the keys, and the adapter does not load again")
PY
