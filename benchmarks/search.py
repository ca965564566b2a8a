"""Search quality: our operators against pymoo's defaults and against random search, at equal evaluations.

``make bench NAME=search [DATA=folder]``; DATA is a folder with ``text/wikitext2_train_head.raw``, without it the
model's own text is used.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.core.repair import Repair
from pymoo.core.termination import NoTermination
from pymoo.indicators.hv import HV
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.bitflip import BitflipMutation
from pymoo.operators.sampling.rnd import BinaryRandomSampling

from benchmarks._result import write_result
from nas_llm.cache import cache_dir
from nas_llm.config import Problem
from nas_llm.search import (
    CachedEvaluator,
    CostConstraints,
    EvaluationCache,
    GenomeRepair,
    Search,
    build_operators,
    normalised_hypervolume,
    search_scale,
)
from nas_llm.space import Genome
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import Prepared, prepare

OBJECTIVES = ("perplexity", "macs_per_token")
SEEDS = (0, 1, 2)


def definition(data: Path | None, *, seed: int, evaluations: int, population: int) -> Problem:
    """The problem that all three methods search."""
    text = str((data / "text" / "wikitext2_train_head.raw").resolve()) if data else "self"
    sources = [{"source": text}]
    return Problem.model_validate(
        {
            "name": "bench-search",
            "seed": seed,
            "objectives": OBJECTIVES,
            "model": {"source": "smollm2-135m"},
            "data": {
                "window": 512,
                "calibration": {"tokens": 16384, "sources": sources},
                "fitness": {"tokens": 512, "sources": sources},
                "held_out": {"tokens": 512, "sources": sources},
            },
            "space": {"min_attn_layers": 26, "min_mlp_layers": 28},
            "constraints": {"min_ratio": 0.5},
            "search": {"population": population, "evaluations": evaluations},
        }
    )


def ours(prepared: Prepared, problem: Problem, evaluator: CachedEvaluator) -> list[list[float]]:
    """NSGA-II with this package's operators."""
    with tempfile.TemporaryDirectory() as folder:
        result = Search(
            problem=problem,
            space=prepared.space,
            cost_model=prepared.cost_model,
            scores=prepared.calibration.scores,
            evaluator=evaluator,
            directory=Path(folder),
        ).run(resume=False)
    return [[row.objectives[name] for name in OBJECTIVES] for row in result.evaluations]


def random_search(prepared: Prepared, problem: Problem, evaluator: CachedEvaluator) -> list[list[float]]:
    """As many draws from the first population's own distribution."""
    operators = build_operators(
        problem.search.operators,
        space=prepared.space,
        scores=prepared.calibration.scores,
        cost_model=prepared.cost_model,
        constraints=problem.constraints,
    )
    genomes = operators.sampling.draw(problem.search.evaluations, np.random.default_rng(problem.seed))
    return _rows(prepared, genomes, evaluator.evaluate(genomes))


class _BitProblem(PymooProblem):
    def __init__(self, bits: int) -> None:
        super().__init__(n_var=bits, n_obj=2, xl=0, xu=1, vtype=bool)


class _BitRepair(Repair):
    def __init__(self, prepared: Prepared, problem: Problem) -> None:
        super().__init__()
        self._shape = prepared.dense.architecture
        self._repair = GenomeRepair(
            space=prepared.space,
            scores=prepared.calibration.scores,
            cost_model=prepared.cost_model,
            constraints=CostConstraints(problem.constraints),
        )

    def genome(self, bits: np.ndarray) -> Genome:
        layers, groups = self._shape.num_layers, self._shape.num_kv_heads
        cut = layers * groups
        return Genome(bits[:cut].astype(bool).reshape(layers, groups), bits[cut:].astype(bool).reshape(layers, -1))

    def _do(self, problem: Any, X: np.ndarray, random_state: Any = None, **kwargs: Any) -> np.ndarray:
        rng = random_state if random_state is not None else np.random.default_rng(0)
        repaired = [self._repair(self.genome(row), rng=rng) for row in X]
        return np.stack([np.concatenate([g.attn_mask.ravel(), g.mlp_mask.ravel()]) for g in repaired])


def pymoo_default(prepared: Prepared, problem: Problem, evaluator: CachedEvaluator) -> list[list[float]]:
    """NSGA-II with pymoo's binary sampling, uniform crossover and bit-flip mutation, repaired to the same space."""
    shape = prepared.dense.architecture
    repair = _BitRepair(prepared, problem)
    algorithm = NSGA2(
        pop_size=problem.search.population,
        sampling=BinaryRandomSampling(),
        crossover=UniformCrossover(),
        mutation=BitflipMutation(),
        repair=repair,
    )
    algorithm.setup(
        _BitProblem(shape.num_layers * (shape.num_kv_heads + shape.intermediate_size)),
        seed=problem.seed,
        termination=NoTermination(),
    )
    rows: list[list[float]] = []
    dense = vars(prepared.cost_model.dense)
    while len(rows) < problem.search.evaluations:
        population = algorithm.ask()[: problem.search.evaluations - len(rows)]
        genomes = [repair.genome(individual.X) for individual in population]
        found = _rows(prepared, genomes, evaluator.evaluate(genomes))
        for individual, row in zip(population, found, strict=True):
            individual.F = search_scale(dict(zip(OBJECTIVES, row, strict=True)), OBJECTIVES, dense)
        algorithm.tell(infills=population)
        rows += found
    return rows


def _rows(prepared: Prepared, genomes: list[Genome], values: list[float]) -> list[list[float]]:
    pairs = zip(genomes, values, strict=True)
    return [[value, float(prepared.cost_model(genome).macs_per_token)] for genome, value in pairs]


METHODS = {"ours": ours, "random": random_search, "pymoo_default": pymoo_default}


def main() -> None:
    """Run all methods on all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--population", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=list(METHODS))
    arguments = parser.parse_args()
    keep_freed_memory()
    budget = {"evaluations": arguments.evaluations, "population": arguments.population}
    problem = definition(arguments.data, seed=0, **budget)
    prepared = prepare(problem, base_dir=Path.cwd(), on_event=lambda event: None)
    evaluator = prepared.evaluator(prepared.splits.fitness, metric="perplexity")
    dense_perplexity = evaluator.evaluate([Genome.dense(prepared.dense.architecture)])[0]
    dense = {"perplexity": dense_perplexity, "macs_per_token": float(prepared.cost_model.dense.macs_per_token)}
    cache = EvaluationCache(cache_dir() / "bench-evaluations.sqlite", identity=evaluator.identity)
    cached = CachedEvaluator(evaluator, cache)
    rows: list[dict[str, Any]] = []
    points: dict[tuple[int, str], np.ndarray] = {}
    for seed in arguments.seeds:
        problem = definition(arguments.data, seed=seed, **budget)
        for name in arguments.methods:
            started = time.perf_counter()
            found = np.array(METHODS[name](prepared, problem, cached))
            counts = [count for count in (40, 80, 120, 160, 200) if count <= len(found)]
            curve = {f"hv@{count}": normalised_hypervolume(found[:count], OBJECTIVES, dense) for count in counts}
            points[seed, name] = found
            rows.append(
                {"seed": seed, "method": name, "evaluations": len(found)}
                | curve
                | {"hypervolume": normalised_hypervolume(found, OBJECTIVES, dense)}
                | _best_at(found, dense)
                | {"seconds": round(time.perf_counter() - started)}
            )
            print(json.dumps(rows[-1]), flush=True)
    if set(arguments.methods) != set(METHODS):
        return
    # The perplexity of guessing uniformly: all methods get below it, and a subnet above it knows nothing.
    worst = float(prepared.dense.architecture.vocab_size)
    for row in rows:
        row["hypervolume_wide"] = _wide_hypervolume(points[row["seed"], row["method"]], dense, worst)
    ratios = {
        other: [_value(rows, seed, "ours", column) / _value(rows, seed, other, column) for seed in arguments.seeds]
        for other, column in (("pymoo_default", "hypervolume_wide"), ("random", "hypervolume"))
    }
    text = "WikiText-2 (train, first articles)" if arguments.data else "the model's own text"
    write_result(
        "search",
        about=(
            f"Normalised hypervolume of (perplexity, MACs) on SmolLM2-135M after {arguments.evaluations} evaluations, "
            f"fitness 512 tokens of {text}, inherited weights, inheriting ratio at least 0.5, dense perplexity "
            f"{dense_perplexity:.2f}. `ours`: NSGA-II with this package's operators; `random`: draws from its "
            "importance-aware first population; `pymoo_default`: NSGA-II with binary random sampling, uniform "
            "crossover and bit-flip mutation, repaired to the same space. `hypervolume` counts ln(perplexity) up to 20 "
            "times the dense model's, which `pymoo_default` never reaches (its hypervolume is 0, the ratio infinite); "
            f"`hypervolume_wide` counts it up to a uniform guess over the vocabulary ({worst:,.0f}), and is what the "
            "ratio to `pymoo_default` is taken of. "
            f"Spread of the ratios over seeds: {_spread(ratios)}. `ppl@r`: lowest perplexity at no more than "
            "a share r of the dense MACs."
        ),
        headline={f"hv_ratio_vs_{other}": median(values) for other, values in ratios.items()},
        rows=rows,
    )


def _wide_hypervolume(found: np.ndarray, dense: dict[str, float], worst: float) -> float:
    """Share of the box from the dense perplexity to ``worst`` (log scale) and from 0 to the dense MACs."""
    quality = np.log(found[:, 0] / dense["perplexity"]) / np.log(worst / dense["perplexity"])
    scaled = np.maximum(np.stack([quality, found[:, 1] / dense["macs_per_token"]], axis=1), 0.0)
    return float(HV(ref_point=np.array([1.0, 1.01]))(scaled) / 1.01)


def _value(rows: list[dict[str, Any]], seed: int, method: str, column: str) -> float:
    return next(float(row[column]) for row in rows if row["seed"] == seed and row["method"] == method)


def _spread(ratios: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {min(values):.3f}-{max(values):.3f}" for name, values in ratios.items())


def _best_at(found: np.ndarray, dense: dict[str, float]) -> dict[str, float]:
    best = {}
    for share in (0.95, 0.9, 0.8, 0.7):
        inside = found[found[:, 1] <= share * dense["macs_per_token"], 0]
        best[f"ppl@{share}"] = float(inside.min()) if len(inside) else float("nan")
    return best


if __name__ == "__main__":
    main()
