"""The population evaluator against masking the dense model, against slicing one by one, and against the FLOP bound.

``make bench NAME=evaluator [DATA=folder]``; DATA is a folder with ``text/wikitext2_train_head.raw``, without it the
model's own text is used.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel

from benchmarks._result import write_result
from nas_llm.config import Problem
from nas_llm.data import WindowSet
from nas_llm.models import DenseModel, fast_float32, matmul_rate
from nas_llm.search import OnResult, Search
from nas_llm.session import RayPool
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import PopulationEvaluator, build_subnet, keep_freed_memory, masked_copy
from nas_llm.workflow import Prepared, prepare

WINDOW = 512
CPU = torch.device("cpu")


def definition(data: Path | None, *, evaluations: int, population: int) -> Problem:
    """The search whose candidates are priced: the defaults, on 2,048 fitness tokens."""
    text = str((data / "text" / "wikitext2_train_head.raw").resolve()) if data else "self"
    sources = [{"source": text}]
    return Problem.model_validate(
        {
            "name": "bench-evaluator",
            "model": {"source": "smollm2-135m"},
            "data": {
                "window": WINDOW,
                "calibration": {"tokens": 16384, "sources": sources},
                "fitness": {"tokens": 2048, "sources": sources},
                "held_out": {"tokens": 8192, "sources": sources},
            },
            "constraints": {"min_ratio": 0.5},
            "search": {"population": population, "evaluations": evaluations},
        }
    )


def hugging_face_loss(model: PreTrainedModel, windows: WindowSet) -> float:
    """The straightforward way: forward and loss of transformers, all windows at once."""
    ids = torch.from_numpy(windows.tokens.copy())
    with torch.inference_mode():
        return float(model(ids, labels=ids, use_cache=False).loss)


class MaskedDense:
    """The straightforward way: zero the omitted columns of one dense float32 model, run it, restore it."""

    def __init__(self, dense: DenseModel) -> None:
        self._dense = dense
        self._model = masked_copy(dense, Genome.dense(dense.architecture)).float()
        names = (dense.adapter.names.o, dense.adapter.names.fc2)
        layers = dense.adapter.layers(self._model)
        self._outputs = [[layer.get_submodule(name).weight.data for name in names] for layer in layers]
        self._originals = [[weight.clone() for weight in pair] for pair in self._outputs]

    def seconds(self, genome: Genome, windows: WindowSet) -> float:
        """Time of one candidate at torch's default precision."""
        shape = self._dense.architecture
        started = time.perf_counter()
        for layer, (outputs, originals) in enumerate(zip(self._outputs, self._originals, strict=True)):
            heads = genome.attn_mask[layer].repeat(shape.heads_per_group * shape.head_dim)
            for weight, original, mask in zip(outputs, originals, (heads, genome.mlp_mask[layer]), strict=True):
                torch.mul(original, torch.tensor(mask), out=weight)
        hugging_face_loss(self._model, windows)
        return time.perf_counter() - started


def serial_seconds(prepared: Prepared, genome: Genome, windows: WindowSet) -> float:
    """Slice one candidate and run it, in the evaluator's arithmetic."""
    started = time.perf_counter()
    with fast_float32(CPU):
        hugging_face_loss(build_subnet(prepared.dense, genome).to(prepared.dtype), windows)
    return time.perf_counter() - started


class Timed:
    """Times the evaluator on every generation of a search, and slicing one by one on a part of it."""

    def __init__(self, prepared: Prepared, windows: WindowSet, *, every: int) -> None:
        self.evaluator = make_evaluator(prepared, windows)
        self.genomes: list[Genome] = []
        self.seconds: list[float] = []
        self.serial: list[float] = []
        self._prepared, self._windows, self._every = prepared, windows, every

    def evaluate(self, genomes: Sequence[Genome], *, on_result: OnResult) -> list[float]:
        """Price genomes."""
        started = time.perf_counter()
        values = self.evaluator.evaluate(genomes)
        self.seconds += [(time.perf_counter() - started) / len(genomes)] * len(genomes)
        self.genomes += genomes
        for index, value in enumerate(values):
            on_result(index, value, self.seconds[-1])
        for genome in genomes[:: self._every]:
            self.serial.append(serial_seconds(self._prepared, genome, self._windows))
        return values


def make_evaluator(prepared: Prepared, windows: WindowSet, **arguments: Any) -> PopulationEvaluator:
    """A fresh evaluator of perplexity with inherited weights."""
    return PopulationEvaluator(
        prepared.dense, windows, metric="perplexity", device=CPU, dtype=prepared.dtype, **arguments
    )


def seconds_of(function: Callable[[], Any]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def spread(genomes: Sequence[Genome], prepared: Prepared, count: int) -> list[Genome]:
    """Genomes of a search at evenly spread ratios from 0.5 to 0.9."""
    ratios = np.array([prepared.cost_model(genome).inheriting_ratio for genome in genomes])
    inside = [int(i) for i in np.argsort(ratios, kind="stable") if 0.5 <= ratios[i] <= 0.9]
    return [genomes[inside[i]] for i in np.linspace(0, len(inside) - 1, count).round().astype(int)]


def gemm_bound(prepared: Prepared, genomes: Sequence[Genome], tokens: int) -> tuple[float, float]:
    """Seconds that the candidates' multiply-accumulates take at the machine's measured matrix rate, and that rate."""
    shape = prepared.dense.architecture
    with fast_float32(CPU):
        rate = matmul_rate(
            CPU, prepared.dtype, rows=2048, inner=shape.hidden_size, columns=shape.intermediate_size, repeats=20
        )
    model = CostModel(shape, sequence_length=WINDOW)
    return sum(model(genome).macs_per_token for genome in genomes) * tokens / rate, rate


def shares(evaluator: PopulationEvaluator, genome: Genome) -> dict[str, float]:
    """Where the time of one candidate goes, as shares."""
    kinds = {
        "mm": "matrix products",
        "addmm": "matrix products",
        "bmm": "attention products and softmax",
        "_softmax": "attention products and softmax",
        "_scaled_dot_product_flash_attention_for_cpu": "attention products and softmax",
        "_log_softmax": "loss",
        "gather": "loss",
        "index_select": "slicing",
    }
    with profile(activities=[ProfilerActivity.CPU]) as found:
        evaluator.evaluate([genome])
    times: dict[str, float] = {}
    for event in found.key_averages():
        kind = kinds.get(event.key.removeprefix("aten::"), "norms, activations, copies, the rest")
        times[kind] = times.get(kind, 0.0) + event.self_cpu_time_total
    total = sum(times.values())
    return {kind: value / total for kind, value in sorted(times.items(), key=lambda item: -item[1])}


def search(prepared: Prepared, problem: Problem, windows: WindowSet) -> Timed:
    """Run the default search on timed evaluations."""
    timed = Timed(prepared, windows, every=4)
    with tempfile.TemporaryDirectory() as folder:
        Search(
            problem=problem,
            space=prepared.space,
            cost_model=prepared.cost_model,
            scores=prepared.calibration.scores,
            evaluator=timed,
            directory=Path(folder),
        ).run(resume=False)
    return timed


def against_masking(
    prepared: Prepared, genomes: Sequence[Genome], windows: WindowSet, rounds: int
) -> list[tuple[float, float, float]]:
    """Seconds a candidate by masking, by the evaluator and at the FLOP bound, in alternating rounds."""
    found = []
    baseline = MaskedDense(prepared.dense)
    for number in range(rounds):
        masked = [baseline.seconds(genome, windows) for genome in genomes[number :: 2 * rounds]]
        gc.collect()
        evaluator = make_evaluator(prepared, windows)
        bound, _ = gemm_bound(prepared, genomes, windows.num_tokens)
        ours = seconds_of(lambda evaluator=evaluator: evaluator.evaluate(genomes))
        bound = min(bound, gemm_bound(prepared, genomes, windows.num_tokens)[0])
        found.append((sum(masked) / len(masked), ours / len(genomes), bound / len(genomes)))
        print(json.dumps({"round": number, "masked": found[-1][0], "ours": found[-1][1], "bound": found[-1][2]}))
    return found


def scaling(prepared: Prepared, genomes: Sequence[Genome], text: WindowSet) -> list[dict[str, Any]]:
    """Seconds and peak memory against tokens, population and shared prefixes."""
    rows: list[dict[str, Any]] = []

    def row(what: str, chosen: Sequence[Genome], windows: int, **arguments: Any) -> None:
        evaluator = make_evaluator(prepared, WindowSet(tokens=text.tokens[:windows], name="fitness"), **arguments)
        seconds = seconds_of(lambda: evaluator.evaluate(chosen))
        rows.append(
            {
                "measured": what,
                "candidates": len(chosen),
                "tokens": windows * WINDOW,
                "seconds": round(seconds, 2),
                "blocks reused": round(evaluator.statistics.reused, 3),
                "budget MB": round(evaluator.plan.total / 1e6),
                "blocks MB": round(evaluator.blocks.peak_bytes / 1e6),
                "hidden states MB": round(evaluator.states.peak_bytes / 1e6),
            }
        )
        print(json.dumps(rows[-1]), flush=True)

    for windows in (1, 2, 4, 8, 16):
        row("tokens", genomes[:4], windows)
    for count in (4, 8, 16, 32):
        row("population", genomes[:count], 2)
    half, first = genomes[0].num_layers // 2, genomes[0]
    family = [
        Genome(
            np.vstack([first.attn_mask[:half], genome.attn_mask[half:]]),
            np.vstack([first.mlp_mask[:half], genome.mlp_mask[half:]]),
        )
        for genome in genomes[:16]
    ]
    row("first half of the blocks shared", family, 2)
    for gigabytes in (0.08, 0.2, 0.5, 1.0):
        row("memory budget", genomes[:8], 4, memory_bytes=int(gigabytes * 1e9))
    row("streamed blocks", genomes[:8], 4, stream=True)
    return rows


def _no_load() -> None:
    """Everything comes with the evaluator."""


def _worker_evaluator(host: object, *, source: str, windows: WindowSet, dtype: torch.dtype) -> PopulationEvaluator:
    from nas_llm.models import load_model

    torch.set_num_threads(1)
    return PopulationEvaluator(load_model(source), windows, metric="perplexity", device=CPU, dtype=dtype)


def ray_speedup(prepared: Prepared, genomes: Sequence[Genome], windows: WindowSet) -> float:
    """Throughput of two Ray workers over one, one thread each; alternating, values compared."""
    build = partial(_worker_evaluator, source=prepared.dense.source, windows=windows, dtype=prepared.dtype)
    ratios = []
    for number in range(2):
        times, values = {}, {}
        for workers in (1, 2):
            with RayPool(_no_load, workers=workers, threads=1) as pool:
                evaluator = pool.evaluator("bench", build)
                # Every worker loads its model before the clock runs.
                evaluator.evaluate(list(genomes[: 4 * workers]))
                chosen = list(genomes[8:])
                found: list[float] = []
                times[workers] = seconds_of(lambda e=evaluator, c=chosen, f=found: f.extend(e.evaluate(c)))
                values[workers] = found
        if values[1] != values[2]:
            raise SystemExit("two workers gave other values than one")
        ratios.append(times[1] / times[2])
        print(json.dumps({"ray round": number, "speedup": ratios[-1]}), flush=True)
    return median(ratios)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    keep_freed_memory()
    problem = definition(arguments.data, evaluations=arguments.evaluations, population=arguments.population)
    prepared = prepare(problem, base_dir=Path.cwd(), on_event=lambda event: None)
    windows = prepared.splits.fitness
    timed = search(prepared, problem, windows)
    reused, ours, serial = timed.evaluator.statistics.reused, sum(timed.seconds), timed.serial
    serial_whole = sum(serial) / len(serial) * len(timed.genomes)
    print(json.dumps({"search": ours, "one by one": serial_whole, "reused": reused}), flush=True)
    genomes = spread(timed.genomes, prepared, 32)
    del timed
    gc.collect()
    rounds = against_masking(prepared, genomes, windows, arguments.rounds)
    masked, mine, bound = (median(values) for values in zip(*rounds, strict=True))
    split = shares(make_evaluator(prepared, windows), genomes[16])
    rate = gemm_bound(prepared, genomes, windows.num_tokens)[1]
    rows = scaling(prepared, genomes, prepared.splits.held_out)
    speedup = ray_speedup(prepared, genomes, WindowSet(tokens=windows.tokens[:1], name="fitness"))
    dtype = str(prepared.dtype).removeprefix("torch.")
    profile_text = ", ".join(f"{kind} {share:.0%}" for kind, share in split.items())
    write_result(
        "evaluator",
        about=(
            f"SmolLM2-135M, {dtype}, 2,048 fitness tokens in windows of {WINDOW}, inherited weights. "
            f"`speedup_vs_masked_dense`: 32 candidates of a real search, spread over inheriting ratios 0.5-0.9; "
            f"masking the dense float32 model in place and running transformers' forward and loss takes {masked:.2f} s a "
            f"candidate, the evaluator {mine:.2f} s (medians of {len(rounds)} alternating rounds). "
            f"`speedup_vs_sliced_serial`: a whole default search of {arguments.evaluations} evaluations, evaluator "
            f"{ours:.0f} s, slicing each candidate into a model of its own and running transformers' forward and loss "
            f"in the same arithmetic {serial_whole:.0f} s (every fourth candidate was measured, in between); "
            f"{reused:.1%} of the search's blocks were shared. `gemm_fraction`: the candidates' multiply-accumulates "
            f"(attention products of whole windows included) at the measured {dtype} matrix rate of "
            f"{2 * rate / 1e9:.0f} GFLOP/s, over the evaluator's time. The time of one candidate (profiler): "
            f"{profile_text}. `ray_speedup`: throughput of two Ray workers over one, one thread each, same values."
        ),
        headline={
            "speedup_vs_masked_dense": masked / mine,
            "speedup_vs_sliced_serial": serial_whole / ours,
            "gemm_fraction": bound / mine,
            "blocks_reused": reused,
            "ray_speedup": speedup,
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
