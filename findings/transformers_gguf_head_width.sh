#!/usr/bin/env bash
# Good guess:   transformers reads the head width of a GGUF file from attention.key_length, the key that says it. The
#               key rope.dimension_count is the rotated part of a head and says nothing about the rest.
# What happens: gemma3 does so. llama and mistral take rope.dimension_count for the head width and never look at
#               key_length (so a head of 32 with 24 rotated becomes one of 24, and a file without the key gets hidden
#               size / heads); qwen3 looks at neither and says 128, the default of its class.
# Seen with:    transformers 5.24.0, gguf 0.19.0, torch 2.13.0, Python 3.11, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-compile torch==2.13.0 transformers==5.24.0 gguf==0.19.0
HF_HUB_OFFLINE=1 WORK="$work" "$work/venv/bin/python" - <<'PY'
import os
import tempfile
from pathlib import Path

import gguf
import numpy as np
import transformers
from transformers import AutoConfig

transformers.logging.set_verbosity_error()
ARCHS = ("llama", "mistral", "gemma3", "qwen3")


def head_dim(arch: str, rotary: int | None) -> int:
    """What transformers makes of a GGUF file of hidden size 64 and 4 heads, each 32 wide by attention.key_length."""
    folder = Path(tempfile.mkdtemp(dir=os.environ["WORK"]))
    writer = gguf.GGUFWriter(folder / "model.gguf", arch)
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(32)
    writer.add_value_length(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e6)
    writer.add_vocab_size(32)
    if rotary is not None:
        writer.add_rope_dimension_count(rotary)
    writer.add_tensor("token_embd.weight", np.zeros((32, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return AutoConfig.from_pretrained(folder, gguf_file="model.gguf").head_dim


print("transformers", transformers.__version__)
seen = {rotary: [head_dim(arch, rotary) for arch in ARCHS] for rotary in (None, 32, 24)}
for rotary, widths in seen.items():
    print(f"key_length 32, rope.dimension_count {rotary}:", dict(zip(ARCHS, widths, strict=True)))
assert seen == {None: [16, 16, 32, 128], 32: [32, 32, 32, 128], 24: [24, 24, 32, 128]}
print("as described: only gemma3 reads the key for the head width")
PY
