"""Reconstruction: the closed form against the paper's ADMM, on equal Grams, masks and ridge.

``make bench NAME=reconstruction [DATA=folder]``; DATA is a folder with ``text/wikitext2_train_head.raw``, without it
the model's own text is used. The subnets are those that ``make bench NAME=front`` found at ``--ratios``, on all layers;
where there are none, uniform ones on a few layers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._result import write_result
from benchmarks.front import best_at
from nas_llm.calibration import Calibration, Gram, calibrate
from nas_llm.data import WindowSet, packaged_sample, read_texts, token_windows
from nas_llm.errors import DataError
from nas_llm.models import DenseModel, load_model
from nas_llm.reconstruction import Refit, admm, closed_form
from nas_llm.space import BoolArray, Genome
from nas_llm.workflow import open_run

RATIOS = (0.7,)
# A long ADMM runs on few output rows (each is a problem of its own) and only on the first refits of a subnet.
LONG_ROWS, LONG_PROJECTIONS = 16, 2


def calibration_windows(dense: DenseModel, data: Path | None, *, tokens: int, window: int) -> WindowSet:
    """The first windows of the text."""
    path = data / "text" / "wikitext2_train_head.raw" if data else packaged_sample(dense.sample or "")
    if path is None:
        raise DataError(f"no text ships for {dense.source}; give --data")
    ids = token_windows(dense.tokenizer, read_texts(path), window=window)[: tokens // window]
    return WindowSet(tokens=ids, name="calibration")


def uniform_genome(dense: DenseModel, calibration: Calibration, ratio: float) -> Genome:
    """The best-scored units of every layer, the same share of KV groups (rounded up) and of FFN channels in each."""
    shape, scores, layers = dense.architecture, calibration.scores, range(dense.architecture.num_layers)
    groups, channels = math.ceil(ratio * shape.num_kv_heads), round(ratio * shape.intermediate_size)
    return Genome(
        np.stack([scores.top_attn(layer, groups) for layer in layers]),
        np.stack([scores.top_mlp(layer, channels) for layer in layers]),
    )


def problems(
    dense: DenseModel, calibration: Calibration, genome: Genome, layer: int
) -> list[tuple[Tensor, Tensor | None, Gram, BoolArray]]:
    """The refits of one layer: weight, bias, Gram and mask of o and of fc2, where something is omitted."""
    shape, names = dense.architecture, dense.adapter.names
    state = dense.adapter.layers(dense.model)[layer].state_dict()
    masks = (genome.attn_mask[layer].repeat(shape.heads_per_group * shape.head_dim), genome.mlp_mask[layer])
    return [
        (state[f"{name}.weight"], state.get(f"{name}.bias"), gram, mask)
        for name, gram, mask in zip((names.o, names.fc2), calibration.grams(layer), masks, strict=True)
        if mask.any() and not mask.all()
    ]


def timed(solve: Any, *arguments: Any, damping: float) -> tuple[Refit, float]:
    """One refit with its residuals, and its seconds."""
    started = time.perf_counter()
    refit = solve(*arguments, damping=damping)
    return refit, time.perf_counter() - started


def measure(
    dense: DenseModel,
    calibration: Calibration,
    genome: Genome,
    ratio: float,
    layers: list[int],
    *,
    damping: float,
    long_iterations: int,
) -> dict[str, Any]:
    """One row: both solvers on all projections of the layers."""
    ratios, speedups, ours, theirs, inherited, long_differences = ([] for _ in range(6))
    seconds: dict[str, list[float]] = {"closed_form": [], "admm": []}
    for layer in layers:
        for problem in problems(dense, calibration, genome, layer):
            exact, exact_seconds = timed(closed_form, *problem, damping=damping)
            iterated, iterated_seconds = timed(admm, *problem, damping=damping)
            inherited.append(exact.residual_before)
            ours.append(exact.residual_after)
            theirs.append(iterated.residual_after)
            ratios.append(exact.residual_after / iterated.residual_after)
            seconds["closed_form"].append(exact_seconds)
            seconds["admm"].append(iterated_seconds)
            speedups.append(iterated_seconds / exact_seconds)
            if len(long_differences) < LONG_PROJECTIONS:
                weight, bias, gram, mask = problem
                rows = (weight[:LONG_ROWS], None if bias is None else bias[:LONG_ROWS], gram, mask)
                wanted = closed_form(*rows, damping=damping).weight
                found = admm(*rows, damping=damping, iterations=long_iterations).weight
                long_differences.append(float((found - wanted).norm() / wanted.norm()))
    return {
        "ratio": ratio,
        "projections": len(ratios),
        "residual_inherited": mean(inherited),
        "residual_closed_form": mean(ours),
        "residual_admm": mean(theirs),
        "residual_ratio": max(ratios),
        "seconds_closed_form": median(seconds["closed_form"]),
        "seconds_admm": median(seconds["admm"]),
        "speedup": median(speedups),
        "long_relative_difference": max(long_differences),
    }


def main() -> None:
    """Measure all ratios and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--tokens", type=int, default=16384)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--run", type=Path, default=Path("runs/bench-front"), help="whose subnets; none: uniform ones")
    parser.add_argument("--layers", type=int, help="how many layers, evenly spaced; default all of a run's, else 4")
    parser.add_argument("--damping", type=float, default=1e-2)
    parser.add_argument("--long-iterations", type=int, default=10000)
    parser.add_argument("--ratios", type=float, nargs="+", default=list(RATIOS))
    arguments = parser.parse_args()
    dense = load_model(arguments.model)
    window = min(arguments.window, dense.architecture.max_positions)
    windows = calibration_windows(dense, arguments.data, tokens=arguments.tokens, window=window)
    calibration = calibrate(dense, windows, scorer="importance", damping=1e-2, device=torch.device("cpu"))
    run = open_run(arguments.run) if arguments.model == "smollm2-135m" and arguments.run.is_dir() else None
    count = min(arguments.layers or (dense.architecture.num_layers if run else 4), dense.architecture.num_layers)
    layers = [int(layer) for layer in np.linspace(0, dense.architecture.num_layers - 1, count).round()]
    rows = []
    for ratio in arguments.ratios:
        genome = best_at(run, ratio).genome if run else uniform_genome(dense, calibration, ratio)
        rows.append(
            measure(
                dense,
                calibration,
                genome,
                ratio,
                layers,
                damping=arguments.damping,
                long_iterations=arguments.long_iterations,
            )
        )
        print(json.dumps(rows[-1]), flush=True)
    if arguments.model != "smollm2-135m":
        return
    place = f"layers {', '.join(map(str, layers))}" if count < dense.architecture.num_layers else "all layers"
    subnets = (
        "subnets of `NAME=front`" if run else "every layer keeps the best-scored share of FFN channels and KV groups"
    )
    text = "WikiText-2 (train, first articles)" if arguments.data else "the model's own text"
    write_result(
        "reconstruction",
        about=(
            f"Refits of the output projections of SmolLM2-135M, {place}, with Grams of {windows.num_tokens:,} tokens of "
            f"{text}; {subnets}. `closed_form` against `admm` as in the paper (rho = 1, 30 iterations, on the "
            f"normalised Gram), both in float64 with a ridge of {arguments.damping:g} of the mean diagonal on the "
            "update; residuals are relative squared output errors, averaged over projections, `residual_ratio` is the "
            "largest quotient of any. Times are per projection, solvers taking turns. `long_relative_difference`: "
            f"distance of the weights after {arguments.long_iterations} iterations from the closed form's, first "
            f"{LONG_PROJECTIONS} refits, {LONG_ROWS} rows."
        ),
        headline={
            "residual_ratio_vs_admm": max(row["residual_ratio"] for row in rows),
            "speedup_vs_admm": median(row["speedup"] for row in rows),
            "admm_long_relative_difference": max(row["long_relative_difference"] for row in rows),
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
