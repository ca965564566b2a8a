#!/usr/bin/env bash
# Good guess:   a llama.cpp server started with n_ctx = 100 has a context of 100 tokens: longer prompts are refused,
#               and its cache is that of 100 positions.
# What happens: the context of a slot is rounded up to a multiple of 256. The server says 256, takes a prompt of 200
#               tokens, and refuses one of 300 with "256". Memory and limits measured at an odd n_ctx are those of the
#               next 256.
# Seen with:    xllamacpp 2026.10.11549 (llama.cpp of 2026-10), gguf 0.19.0, Python 3.11, x86-64 CPU, 2026-11.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-compile xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6
WORK="$work" "$work/venv/bin/python" - <<'PY'
import json
import os
import urllib.error
import urllib.request
from importlib.metadata import version

import gguf
import numpy as np
import xllamacpp

path, vocabulary, hidden, channels = os.environ["WORK"] + "/model.gguf", 96, 64, 96
random = np.random.default_rng(0)


def weight(rows: int, columns: int) -> np.ndarray:
    return (0.15 * random.standard_normal((rows, columns))).astype(np.float32)


# A random Llama of one block: 4 heads of 16, characters for tokens.
writer = gguf.GGUFWriter(path, "llama")
writer.add_block_count(1)
writer.add_context_length(512)
writer.add_embedding_length(hidden)
writer.add_feed_forward_length(channels)
writer.add_head_count(4)
writer.add_head_count_kv(4)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_dimension_count(16)
writer.add_vocab_size(vocabulary)
writer.add_tokenizer_model("llama")
writer.add_token_list(["<unk>", "<s>", "</s>", "\u2581"] + [chr(33 + code) for code in range(vocabulary - 4)])
writer.add_token_scores([0.0] * vocabulary)
writer.add_token_types([2, 3, 3] + [1] * (vocabulary - 3))
writer.add_tensor("token_embd.weight", weight(vocabulary, hidden))
writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
writer.add_tensor("output.weight", weight(vocabulary, hidden))
for name in ("attn_norm", "ffn_norm"):
    writer.add_tensor(f"blk.0.{name}.weight", np.ones(hidden, np.float32))
for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
    writer.add_tensor(f"blk.0.{name}.weight", weight(hidden, hidden))
writer.add_tensor("blk.0.ffn_gate.weight", weight(channels, hidden))
writer.add_tensor("blk.0.ffn_up.weight", weight(channels, hidden))
writer.add_tensor("blk.0.ffn_down.weight", weight(hidden, channels))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

params = xllamacpp.CommonParams()
params.model.path = path
params.n_ctx = 100
params.n_parallel = 1
params.n_gpu_layers = 0
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup = False
params.verbosity = -1
server = xllamacpp.Server(params)


def ask(route: str, **body: object) -> dict:
    request = urllib.request.Request(
        f"{server.listening_address}/{route}",
        json.dumps(body).encode() if body else None,
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as error:
        return {"refused": error.read().decode()}


context = ask("props")["default_generation_settings"]["n_ctx"]
taken = ask("completion", prompt=[5] * 200, n_predict=1)
refused = ask("completion", prompt=[5] * 300, n_predict=1)
print("xllamacpp", version("xllamacpp"))
print("asked for 100 tokens of context, the server says", context)
print("prompt of 200 tokens:", taken.get("tokens_evaluated"), "evaluated, truncated:", taken.get("truncated"))
print("prompt of 300 tokens:", refused.get("refused", "taken"))
assert context == 256
assert taken["tokens_evaluated"] == 200 and taken["truncated"] is False
assert "available context size (256 tokens)" in refused["refused"]
print("as described: 100 became 256")
PY
