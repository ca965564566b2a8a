#!/usr/bin/env bash
# Good guess:   n_predict = 0 (and max_tokens = 0 of the OpenAI route) evaluates the prompt and generates nothing, as
#               the server's manual says: the way to fill the prompt cache or to time a prefill alone.
# What happens: one token is generated, and counted in tokens_predicted and completion_tokens: 0 and 1 give the same
#               answer.
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


seen = {}
for count in (0, 1, 2):
    reply = ask("completion", prompt=[5, 6], n_predict=count, temperature=0.0, ignore_eos=True, return_tokens=True)
    seen[count] = reply["tokens"]
    assert reply["tokens_predicted"] == len(reply["tokens"])
chat = ask("v1/completions", prompt="ab", max_tokens=0, temperature=0.0)["usage"]
print("xllamacpp", version("xllamacpp"))
for count, tokens in seen.items():
    print(f"n_predict {count}: tokens {tokens}")
print("max_tokens 0: completion_tokens", chat["completion_tokens"])
assert len(seen[0]) == 1 and seen[0] == seen[1] and len(seen[2]) == 2
assert chat["completion_tokens"] == 1
print("as described: asked for no token, it generates one")
PY
