"""GGUF exports in llama.cpp: how close to PyTorch, and how fast beside the dense model.

``make bench NAME=exports``; needs the package xllamacpp, which carries llama.cpp. DATA is not used.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks._result import ROOT, write_result
from nas_llm.export import Provenance, export_gguf
from nas_llm.models import DenseModel, load_model
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet

# The tests' own way of asking llama.cpp for log-probabilities.
sys.path.insert(0, str(ROOT / "tests" / "support"))
from llama_cpp import LlamaCpp, largest_difference, partial_characters, torch_greedy

PROMPT = "The bicycle was invented because"
TOKENS = 200
WINDOW = 1024


def genomes(dense: DenseModel) -> dict[str, Genome]:
    """One subnet for each irregularity, all of them together, and one that keeps half of the block parameters."""
    rng = np.random.default_rng(0)
    shape = dense.architecture
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.ones((shape.num_layers, shape.intermediate_size), dtype=bool)
    layers = shape.num_layers

    def channels(counts: list[int]) -> np.ndarray:
        mask = np.zeros_like(mlp)
        for layer, count in enumerate(counts):
            mask[layer, rng.permutation(shape.intermediate_size)[:count]] = True
        return mask

    def without(mask: np.ndarray, gone: list[int]) -> np.ndarray:
        mask = mask.copy()
        mask[gone] = False
        return mask

    fewer = attn.copy()
    fewer[5::7, 1:] = False
    odd = channels([int(rng.integers(700, shape.intermediate_size)) for _ in range(layers)])
    half = channels([shape.intermediate_size // 3] * layers)
    everything_attn = without(fewer, [0, 11, layers - 2])
    return {
        "attention dropped": Genome(without(attn, [3, 20]), mlp),
        "FFN dropped": Genome(attn, without(mlp, [4, 21])),
        "both dropped": Genome(without(attn, [12]), without(mlp, [12])),
        "fewer KV groups": Genome(fewer, mlp),
        "odd FFN widths": Genome(attn, odd),
        "everything": Genome(everything_attn, without(odd, [7, 11, 15])),
        "half": Genome(attn, half),
    }


def write(dense: DenseModel, genome: Genome, folder: Path, dtype: Any) -> tuple[PreTrainedModel, Path]:
    """The subnet, and its GGUF file."""
    subnet = build_subnet(dense, genome)
    cost = CostModel(dense.architecture, sequence_length=WINDOW)
    provenance = Provenance(
        base_model=dense.source,
        base_revision=dense.revision,
        problem="bench-exports",
        seed=0,
        point="p01",
        genome=genome,
        cost=cost(genome),
        dense_cost=cost.dense,
        sequence_length=WINDOW,
        weights="inherited as they are",
        texts={},
        perplexities={},
        reproduce=("make bench NAME=exports",),
        versions={},
    )
    return subnet, export_gguf(subnet, dense, folder, provenance=provenance, dtype=dtype)


@torch.no_grad()
def greedy_gap(served: LlamaCpp, subnet: PreTrainedModel, prompt: list[int]) -> float | None:
    """None if both write the same 40 tokens; else how far apart PyTorch sees the two tokens where they part."""
    theirs, ours = served.greedy(prompt, 40), torch_greedy(subnet, prompt, 40)
    ends = subnet.config.eos_token_id
    if ends in ours:
        # llama.cpp is asked to go on behind the end of the text, and so never writes this token.
        theirs, ours = theirs[: ours.index(ends)], ours[: ours.index(ends)]
    if theirs == ours:
        return None
    place = next(index for index, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
    found = subnet(torch.tensor([prompt + ours[:place]])).logits[0, -1].float().log_softmax(-1)
    return float(found[ours[place]] - found[theirs[place]])


class Served:
    """llama.cpp as people run it: its own defaults, all cores."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 512
        params.n_parallel = 1
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = torch.get_num_threads()
        params.verbosity = -1
        self._server = xllamacpp.Server(params)

    def speeds(self, count: int) -> tuple[float, float]:
        """Prompt and generated tokens a second."""
        body = {"prompt": list(range(100, 356)), "n_predict": count, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(
            f"{self._server.listening_address}/completion",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as reply:
            timings = json.load(reply)["timings"]
        return float(timings["prompt_per_second"]), float(timings["predicted_per_second"])


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    dense = load_model("smollm2-135m")
    cost = CostModel(dense.architecture, sequence_length=WINDOW)
    prompt = dense.tokenizer(PROMPT)["input_ids"]
    banned = partial_characters(dense.tokenizer, dense.architecture.vocab_size)
    rows: list[dict[str, Any]] = []
    chosen = genomes(dense)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, genome in chosen.items():
            row: dict[str, Any] = {"subnet": name, "inheriting ratio": round(cost(genome).inheriting_ratio, 3)}
            for dtype in ("f32", "q8_0"):
                started = time.perf_counter()
                subnet, path = write(dense, genome, folder / f"{name}-{dtype}", dtype)
                seconds = time.perf_counter() - started
                served = LlamaCpp(path)
                gap = largest_difference(served, subnet, prompt, TOKENS, banned=banned, probs=200)
                row |= {f"logprob diff {dtype}": gap, f"MB {dtype}": round(path.stat().st_size / 1e6)}
                if dtype == "f32":
                    row["greedy text parts at a gap of"] = greedy_gap(served, subnet, prompt)
                    row["seconds to write"] = round(seconds, 1)
                del served
                path.unlink()
            rows.append(row)
            print(json.dumps(row), flush=True)
        servers = {
            name: Served(write(dense, genome, folder / f"speed-{name}", "f16")[1])
            for name, genome in (("dense", Genome.dense(dense.architecture)), ("half", chosen["half"]))
        }
        speeds = {name: [server.speeds(128) for _ in range(1)] for name, server in servers.items()}
        for _ in range(arguments.rounds):
            for name, server in servers.items():
                speeds[name].append(server.speeds(128))
    # The first of each warmed its server up.
    prefill, decode = ({name: median(s[kind] for s in found[1:]) for name, found in speeds.items()} for kind in (0, 1))
    half = cost(chosen["half"])
    write_result(
        "exports",
        about=(
            f"GGUF exports of irregular subnets of SmolLM2-135M in llama.cpp against PyTorch: largest difference of "
            f"log-probabilities of the 200 most probable tokens at each of {TOKENS} sampled tokens (F32 cache, no flash "
            f"attention), and whether both write the same 40 tokens greedily (None) or part, at what gap in PyTorch. Speed: F16 files, llama.cpp's defaults, {torch.get_num_threads()} threads, medians of "
            f"{arguments.rounds} alternating rounds of 256 prompt and 128 generated tokens; dense {prefill['dense']:.0f} "
            f"and {decode['dense']:.1f} tokens/s, subnet `half` {prefill['half']:.0f} and {decode['half']:.1f} tokens/s. "
            f"`half` keeps {half.inheriting_ratio:.2f} of the block parameters, and with the embeddings, which stay, "
            f"{half.params / cost.dense.params:.2f} of all; `macs_ratio_r50` is dense over subnet."
        ),
        headline={
            "max_logprob_diff_f32": max(row["logprob diff f32"] for row in rows),
            "max_logprob_diff_q8_0": max(row["logprob diff q8_0"] for row in rows),
            "decode_speedup_r50": decode["half"] / decode["dense"],
            "prefill_speedup_r50": prefill["half"] / prefill["dense"],
            "macs_ratio_r50": cost.dense.macs_per_token / half.macs_per_token,
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
