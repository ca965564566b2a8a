"""A small front with true genomes and costs, for tests of what is done with fronts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nas_llm.space import Architecture, Cost, CostModel, Genome
from nas_llm.workflow import Front, FrontPoint

ARCHITECTURE = Architecture(
    family="llama",
    num_layers=4,
    hidden_size=64,
    num_heads=8,
    num_kv_heads=4,
    head_dim=8,
    intermediate_size=160,
    vocab_size=500,
    gated_mlp=True,
    qkv_bias=False,
    o_bias=False,
    mlp_bias=False,
    norm_parameters=64,
    norm_outside=False,
    final_norm=True,
    tied_embeddings=True,
    embedding_size=64,
    position_parameters=0,
    max_positions=512,
)
COST_MODEL = CostModel(ARCHITECTURE, sequence_length=128)
WINDOWS = {
    "calibration": {"tokens": 4096, "window": 128, "windows": 32, "digest": "c" * 32, "sources": [{"source": "self"}]},
    "fitness": {"tokens": 1024, "window": 128, "windows": 8, "digest": "f" * 32, "sources": [{"source": "<wiki>.txt"}]},
    "held_out": {"tokens": 2048, "window": 128, "windows": 16, "digest": "e" * 32, "sources": [{"source": "self"}]},
}


@dataclass(frozen=True)
class ExampleRow:
    """One evaluation of a history."""

    ordinal: int
    generation: int
    objectives: Mapping[str, float]
    cost: Cost


def genome(channels: int, *, first_ffn: bool = True) -> Genome:
    """The genome that keeps the first ``channels`` of every FFN, without the first FFN if so wished."""
    attn = np.ones((4, 4), dtype=bool)
    mlp = np.zeros((4, 160), dtype=bool)
    mlp[0 if first_ffn else 1 :, :channels] = True
    return Genome(attn, mlp)


def point(
    name: str, masks: Genome, perplexity: float, quality: str = "perplexity", *, knee: bool = False
) -> FrontPoint:
    """A point whose held-out perplexity is a tenth above what the search saw."""
    cost = COST_MODEL(masks)
    return FrontPoint(
        id=name,
        genome=masks,
        objectives={
            quality: perplexity if quality == "perplexity" else float(np.log(perplexity / 10)),
            "macs_per_token": float(cost.macs_per_token),
        },
        cost=cost,
        fitness_perplexity=perplexity,
        held_out_perplexity=perplexity * 1.1,
        generation=0 if name == "dense" else 2,
        knee=knee,
    )


def example_front(quality: str = "perplexity") -> Front:
    """Four points p01 (largest) to p04 (smallest, without its first FFN); p02 is the knee."""
    return Front(
        problem="example",
        seed=7,
        model={"source": "tiny-llama", "revision": "abc123"},
        data=WINDOWS,
        objectives=(quality, "macs_per_token"),
        weights="reconstructed",
        hypervolume=0.4321,
        dense=point("dense", Genome.dense(ARCHITECTURE), 10.0, quality),
        points=(
            point("p01", genome(128), 12.0, quality),
            point("p02", genome(96), 15.0, quality, knee=True),
            point("p03", genome(64), 30.0, quality),
            point("p04", genome(32, first_ffn=False), 2000.0, quality),
        ),
    )


def example_rows(front: Front, *, count: int = 60) -> list[ExampleRow]:
    """A made-up history of random widths in three generations that ends with the points of the front."""
    rng = np.random.default_rng(0)
    rows = []
    for ordinal in range(count):
        masks = genome(int(rng.integers(1, 11)) * 16)
        worse = point("x", masks, float(10 * np.exp(4 * rng.random())), front.quality)
        rows.append(ExampleRow(ordinal + 1, 1 + 3 * ordinal // count, worse.objectives, worse.cost))
    found = [ExampleRow(count + i + 1, 4, p.objectives, p.cost) for i, p in enumerate(front.points)]
    return rows + found
