"""A run on the packaged test model whose front of ten points was made up, not searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dense_models import cut_heads

from nas_llm.config import load_problem
from nas_llm.events import ignore
from nas_llm.runs import write_problem
from nas_llm.space import Genome
from nas_llm.workflow import Front, FrontPoint, Run, open_run, prepare

SETTINGS = (
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
)
POINTS = 10


def make_run(directory: Path, *overrides: str, problem: str | Path = "tiny-llama", mode: str = "kv_group") -> Run:
    """Write ``problem.toml`` and ``front.json``: p01 is uniform, p02 lacks attention, p03 an FFN, the rest differ.

    In a mode of masks inside heads, those of all points but p01 keep some of their channels.
    """
    loaded = load_problem(problem, overrides=[*SETTINGS, *overrides])
    prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore)
    directory.mkdir(parents=True)
    write_problem(directory, prepared.problem, prepared.resolved())
    shape, rng = prepared.dense.architecture, np.random.default_rng(3)

    def point(name: str, genome: Genome, knee: bool = False) -> FrontPoint:
        cost = prepared.cost_model(genome)
        return FrontPoint(
            id=name,
            genome=genome,
            objectives={"perplexity": 200.0, "macs_per_token": float(cost.macs_per_token)},
            cost=cost,
            fitness_perplexity=200.0,
            held_out_perplexity=210.0,
            generation=1,
            knee=knee,
        )

    points = []
    for number in range(1, POINTS + 1):
        attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
        mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
        for layer in range(shape.num_layers):
            mlp[layer, : 16 * (4 + (number * (1 if number == 1 else layer + 1)) % 9)] = True
        attn[1, 0] = number in (1, 4)
        if number == 2:
            attn[3] = False
        if number == 3:
            mlp[4] = False
        if number > 4:
            mlp[:, rng.integers(shape.intermediate_size // 4)] = False
        genome = Genome(attn, mlp)
        if mode != "kv_group" and number > 1:
            genome = cut_heads(shape, genome, mode, number)
        points.append(point(f"p{number:02d}", genome, knee=number == 5))
    splits = prepared.splits
    front = Front(
        problem=loaded.problem.name,
        seed=loaded.problem.seed,
        model={"source": prepared.dense.source, "revision": prepared.dense.revision},
        data={w.name: w.describe() for w in (splits.calibration, splits.fitness, splits.held_out)},
        objectives=("perplexity", "macs_per_token"),
        weights="reconstructed",
        hypervolume=0.5,
        dense=point("dense", Genome.dense(shape)),
        points=tuple(points),
    )
    (directory / "front.json").write_text(front.to_json(), encoding="utf-8")
    return open_run(directory)
