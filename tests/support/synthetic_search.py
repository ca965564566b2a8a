"""A search that costs nothing: small sizes and a smooth, deterministic stand-in for perplexity.

Run as a program it is one search in its own process, for tests that kill it:
``python synthetic_search.py DIRECTORY EVALUATIONS SECONDS_PER_CANDIDATE``.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas_llm.config import Problem
from nas_llm.search import Search
from nas_llm.space import Architecture, AttentionLayout, CostModel, Genome, SearchSpace, UnitScores


def architecture(**sizes: Any) -> Architecture:
    values: dict[str, Any] = {
        "family": "llama",
        "num_layers": 6,
        "hidden_size": 16,
        "num_heads": 6,
        "num_kv_heads": 3,
        "head_dim": 4,
        "intermediate_size": 64,
        "vocab_size": 40,
        "gated_mlp": True,
        "qkv_bias": False,
        "o_bias": False,
        "mlp_bias": False,
        "norm_parameters": 16,
        "norm_outside": False,
        "final_norm": True,
        "tied_embeddings": True,
        "embedding_size": 16,
        "position_parameters": 0,
        "max_positions": 64,
    }
    return Architecture(**{**values, **sizes})


def unit_scores(sizes: Architecture, seed: int = 0, layout: AttentionLayout | None = None) -> UnitScores:
    rng = np.random.default_rng(seed)
    layers, layout = sizes.num_layers, layout or sizes.attention_layout()
    return UnitScores(
        rng.lognormal(size=(layers, layout.units)), rng.lognormal(size=(layers, sizes.intermediate_size)), layout
    )


class SyntheticEvaluator:
    """Perplexity that rises with the importance lost in each layer, layers being unequally sensitive.

    Attributes:
        priced: Digests in the order of pricing.
    """

    def __init__(self, scores: UnitScores, *, seconds: float = 0.0, backwards: bool = False, kl: bool = False) -> None:
        self.scores = scores
        self.seconds = seconds
        self.backwards = backwards
        self.kl = kl
        self.sensitivity = np.random.default_rng(42).lognormal(sigma=0.8, size=(2, len(scores.attn)))
        self.priced: list[str] = []

    def perplexity(self, genome: Genome) -> float:
        loss = 0.0
        for row, masks, scores in zip(
            self.sensitivity, (genome.attn_mask, genome.mlp_mask), (self.scores.attn, self.scores.mlp), strict=True
        ):
            lost = 1.0 - (scores * masks).sum(axis=1) / scores.sum(axis=1)
            loss += float((row * lost**1.5).sum())
        return float(20.0 * np.exp(loss / len(self.scores.attn) * 3.0))

    def evaluate(self, genomes: Sequence[Genome], *, on_result: Callable[[int, float, float], None]) -> list[float]:
        values = [0.0] * len(genomes)
        order = range(len(genomes))
        for index in reversed(order) if self.backwards else order:
            time.sleep(self.seconds)
            values[index] = self.perplexity(genomes[index])
            if self.kl:
                values[index] = float(np.log(values[index] / 20.0))
            self.priced.append(genomes[index].digest())
            on_result(index, values[index], self.seconds)
        return values


def problem(
    *,
    evaluations: int = 40,
    population: int = 8,
    algorithm: str = "nsga2",
    seed: int = 3,
    objectives: tuple[str, ...] = ("perplexity", "macs_per_token"),
    constraints: dict[str, Any] | None = None,
    operators: dict[str, Any] | None = None,
    algorithm_args: dict[str, Any] | None = None,
) -> Problem:
    return Problem.model_validate(
        {
            "name": "synthetic",
            "seed": seed,
            "objectives": objectives,
            "model": {"source": "none"},
            "constraints": {"min_ratio": 0.4} if constraints is None else constraints,
            "search": {
                "algorithm": algorithm,
                "algorithm_args": algorithm_args or {},
                "population": population,
                "evaluations": evaluations,
                "operators": operators or {},
            },
        }
    )


def search(directory: Path, definition: Problem | None = None, **arguments: Any) -> Search:
    sizes = arguments.pop("sizes", None) or architecture()
    scores = unit_scores(sizes)
    space = arguments.pop("space", None) or SearchSpace(sizes, ffn_multiple=4, min_attn_layers=5, min_mlp_layers=5)
    return Search(
        problem=definition or problem(),
        space=space,
        cost_model=CostModel(sizes, sequence_length=16),
        scores=scores,
        evaluator=arguments.pop("evaluator", None) or SyntheticEvaluator(scores),
        directory=directory,
        **arguments,
    )


def fingerprint(directory: Path) -> str:
    """Everything of a history that a resumed run must reproduce, as one line."""
    from nas_llm.search import History

    with History(directory / "history.sqlite", read_only=True) as history:
        rows = [(row.ordinal, row.generation, row.digest, sorted(row.objectives.items())) for row in history.rows()]
    return f"{len(rows)} {hashlib.sha256(repr(rows).encode()).hexdigest()}"


if __name__ == "__main__":
    target, count, pause = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    evaluator = SyntheticEvaluator(unit_scores(architecture()), seconds=pause)
    search(target, problem(evaluations=count), evaluator=evaluator).run(resume=True)
