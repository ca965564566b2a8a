"""The evaluator and the reconstruction on a CUDA GPU, on a Llama of 7 B parameters with random weights.

``make bench NAME=cuda``; skips with a reason where there is no CUDA device. DATA is not used.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks._result import write_result
from nas_llm.calibration import Gram
from nas_llm.data import WindowSet
from nas_llm.models import DenseModel, adapter_for, matmul_rate
from nas_llm.reconstruction import closed_form
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import PopulationEvaluator

WINDOW = 2048
DTYPE = torch.bfloat16


def random_llama(layers: int) -> DenseModel:
    """Llama-2-7B's shape; no weight is learnt, and none has to be for timing."""
    config = LlamaConfig(
        vocab_size=32000,
        hidden_size=4096,
        intermediate_size=11008,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=32,
        head_dim=128,
        max_position_embeddings=4096,
        dtype=DTYPE,
    )
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa", dtype=DTYPE)
    rotary = type(model.model.rotary_emb)(config=config)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    model.model.rotary_emb = rotary
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        # One random row for all: filling 7 B weights with random numbers takes minutes on a CPU.
        row = torch.randn(weight.shape[-1], generator=generator).mul_(0.02).to(DTYPE)
        weight.copy_(row.expand_as(weight) if weight.dim() > 1 else torch.ones_like(weight))
    adapter = adapter_for("llama")
    return DenseModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        adapter=adapter,
        architecture=adapter.architecture(config),
        source="random-llama-7b",
        revision="random",
    )


def population(dense: DenseModel, count: int) -> list[Genome]:
    """Genomes at ratios 0.5 to 0.9, all layers different."""
    rng, shape = np.random.default_rng(0), dense.architecture
    found = []
    for ratio in np.linspace(0.5, 0.9, count):
        mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
        attn = np.zeros((shape.num_layers, shape.num_kv_heads), dtype=bool)
        for layer in range(shape.num_layers):
            channels = round(float(np.clip(rng.normal(ratio, 0.1), 0.2, 1.0)) * shape.intermediate_size / 128) * 128
            mlp[layer, rng.permutation(shape.intermediate_size)[:channels]] = True
            groups = round(float(np.clip(rng.normal(ratio, 0.1), 0.3, 1.0)) * shape.num_kv_heads)
            attn[layer, rng.permutation(shape.num_kv_heads)[:groups]] = True
        found.append(Genome(attn, mlp))
    return found


def timed(function: Callable[[], Any]) -> float:
    """Seconds of a call, the device waited for."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    function()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def reconstruction_seconds(dense: DenseModel, device: torch.device) -> float:
    """One block's two solves at half of the columns, float32."""
    generator = torch.Generator(device).manual_seed(0)
    seconds = 0.0
    for width in (dense.architecture.hidden_size, dense.architecture.intermediate_size):
        inputs = torch.randn(width, 2 * width, generator=generator, device=device)
        gram = Gram(inputs @ inputs.T, inputs.sum(1), 2 * width)
        weight = torch.randn(dense.architecture.hidden_size, width, generator=generator, device=device)
        kept = np.arange(width) % 2 == 0

        def solve(weight: torch.Tensor = weight, gram: Gram = gram, kept: np.ndarray = kept) -> None:
            closed_form(weight, None, gram, kept, damping=1e-2, dtype=torch.float32, residuals=False)

        solve()
        seconds += timed(solve)
    return seconds


def main() -> None:
    """Measure and write the result, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--candidates", type=int, default=16)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: this machine, or this build of torch, has no CUDA device")
        return
    device = torch.device("cuda")
    dense = random_llama(arguments.layers)
    shape = dense.architecture
    genomes = population(dense, arguments.candidates)
    cost = CostModel(shape, sequence_length=WINDOW)
    rate = matmul_rate(device, DTYPE, rows=8192, inner=shape.hidden_size, columns=shape.intermediate_size, repeats=20)
    rows: list[dict[str, Any]] = []
    for windows, stream in ((1, False), (5, False), (5, True)):
        tokens = np.random.default_rng(1).integers(3, shape.vocab_size, (windows, WINDOW))
        torch.cuda.reset_peak_memory_stats()
        evaluator = PopulationEvaluator(
            dense,
            WindowSet(tokens=tokens, name="fitness"),
            metric="perplexity",
            device=device,
            dtype=DTYPE,
            stream=stream,
        )
        evaluator.evaluate(genomes[:1])
        seconds = timed(lambda evaluator=evaluator: evaluator.evaluate(genomes[1:]))
        macs = sum(cost(genome).macs_per_token for genome in genomes[1:]) * tokens.size
        rows.append(
            {
                "tokens": int(tokens.size),
                "blocks": "streamed" if stream else "resident",
                "candidates/s": (len(genomes) - 1) / seconds,
                "TFLOP/s": 2 * macs / seconds / 1e12,
                "share of the matrix rate": macs / seconds / rate,
                "peak GB": torch.cuda.max_memory_allocated() / 1e9,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        del evaluator
        torch.cuda.empty_cache()
    block = reconstruction_seconds(dense, device)
    resident = rows[1]
    write_result(
        "cuda",
        about=(
            f"Llama of Llama-2-7B's shape ({arguments.layers} layers, random weights) on {torch.cuda.get_device_name()}, "
            f"bfloat16, {arguments.candidates - 1} candidates at ratios 0.5-0.9 without common prefixes. Measured matrix "
            f"rate {2 * rate / 1e12:.0f} TFLOP/s. Closed-form reconstruction of one block at half of its columns, "
            f"float32: {block:.2f} s."
        ),
        headline={
            "candidates_per_second": resident["candidates/s"],
            "tflops": resident["TFLOP/s"],
            "gemm_fraction": resident["share of the matrix rate"],
            "reconstruction_seconds": block * arguments.layers,
            "peak_gb": resident["peak GB"],
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
