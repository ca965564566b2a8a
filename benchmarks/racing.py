"""Racing against scoring every candidate on all of the fitness text, at equal numbers of scored tokens.

``make bench NAME=racing [DATA=folder]``; DATA is a folder with ``text/wikitext2_train_head.raw``, without it the
model's own text is used.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._result import write_result
from nas_llm.config import Problem
from nas_llm.events import CandidateEvaluated
from nas_llm.search import Evaluation, Search, normalised_hypervolume
from nas_llm.space import Genome
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import Prepared, prepare

OBJECTIVES = ("perplexity", "macs_per_token")


def definition(data: Path | None, *, seed: int, racing: bool, evaluations: int) -> Problem:
    """The same problem with and without racing."""
    text = str((data / "text" / "wikitext2_train_head.raw").resolve()) if data else "self"
    sources = [{"source": text}]
    return Problem.model_validate(
        {
            "name": "bench-racing",
            "seed": seed,
            "objectives": OBJECTIVES,
            "model": {"source": "smollm2-135m"},
            "data": {
                "window": 256,
                "calibration": {"tokens": 16384, "sources": sources},
                "fitness": {"tokens": 1024, "sources": sources},
                "held_out": {"tokens": 256, "sources": sources},
            },
            "constraints": {"min_ratio": 0.5},
            "fitness": {"racing": racing},
            "search": {"population": 24, "evaluations": evaluations},
        }
    )


def search(prepared: Prepared, problem: Problem, budget: float) -> list[Evaluation]:
    """Search until as much text was scored as ``budget`` candidates have, dense model aside."""
    spent = 0.0
    evaluator = prepared.local_evaluator(prepared.splits.fitness, metric="perplexity")
    whole = prepared.splits.fitness.num_tokens

    def count(event: object) -> None:
        nonlocal spent
        if isinstance(event, CandidateEvaluated):
            spent = evaluator.statistics.tokens / whole

    with tempfile.TemporaryDirectory() as folder:
        result = Search(
            problem=problem,
            space=prepared.space,
            cost_model=prepared.cost_model,
            scores=prepared.calibration.scores,
            evaluator=evaluator,
            directory=Path(folder),
            on_event=count,
            should_stop=lambda: spent >= budget,
        ).run(resume=False)
    return list(result.evaluations)


def main() -> None:
    """Run both on all seeds and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--budget", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for racing in (False, True):
            problem = definition(arguments.data, seed=seed, racing=racing, evaluations=4 * arguments.budget)
            prepared = prepare(problem, base_dir=Path.cwd(), on_event=lambda event: None)
            evaluator = prepared.local_evaluator(prepared.splits.fitness, metric="perplexity")
            dense = {
                "perplexity": evaluator.evaluate([Genome.dense(prepared.dense.architecture)])[0],
                "macs_per_token": float(prepared.cost_model.dense.macs_per_token),
            }
            found = search(prepared, problem, arguments.budget)
            whole = [row for row in found if row.fidelity == 1.0]
            points = [[row.objectives[name] for name in OBJECTIVES] for row in whole]
            rows.append(
                {
                    "seed": seed,
                    "racing": racing,
                    "candidates": len(found),
                    "given up": len(found) - len(whole),
                    "whole texts scored": round(sum(row.fidelity for row in found), 1),
                    "hypervolume": normalised_hypervolume(points, OBJECTIVES, dense),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    values = {(row["seed"], row["racing"]): float(row["hypervolume"]) for row in rows}
    write_result(
        "racing",
        about=(
            f"SmolLM2-135M, inherited weights, fitness 1,024 tokens in four windows, default operators: normalised "
            f"hypervolume of the fully scored candidates when as many tokens were scored as {arguments.budget} whole "
            "candidates have, with `fitness.racing` and without."
        ),
        headline={
            "hv_ratio_vs_no_racing": median(values[seed, True] / values[seed, False] for seed in arguments.seeds)
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
