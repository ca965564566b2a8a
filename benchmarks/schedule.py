"""Schedule: the paper's evolution against NSGA-II with the paper's operators and with ours, at equal evaluations.

``make bench NAME=schedule DATA=folder``; DATA is a folder with ``text/``. The test text is not read. What was searched or
measured is kept in ``--folder`` and not done again, so the command may be cut off, or given more seeds later.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from benchmarks._result import write_result
from benchmarks.front import PROBLEM, validation_windows
from benchmarks.front import overrides as front_overrides
from nas_llm.cache import cache_dir
from nas_llm.config import Problem, load_problem, override_problem
from nas_llm.data import WindowSet
from nas_llm.evaluation import model_perplexity
from nas_llm.events import Event, StageFinished
from nas_llm.finishing import Finisher
from nas_llm.search import CachedEvaluator, EvaluationCache, Search
from nas_llm.search.engine import OnResult
from nas_llm.search.engine._evaluator import unheard
from nas_llm.space import Genome
from nas_llm.studies import paper_settings
from nas_llm.subnet import build_subnet, keep_freed_memory
from nas_llm.workflow import Prepared, prepare
from nas_llm.workflow.search._descent import descend

LOOKS = 6
LITERAL = ["depth", "ratio", {"use": "mask", "literal": True}]
OURS = "NSGA-II, our operators"
DESCENT = f"{OURS}, descent"
PAPER = "paper"
LITERAL_PAPER = "paper, Algorithm 1 as printed"


def _paper(evaluations: int, **more: Any) -> dict[str, Any]:
    # The rule of the studies: a quarter of the budget where the paper's 100 is too many.
    return {
        "search.algorithm": "paper",
        "search.algorithm_args": {},
        "search.population": paper_settings(evaluations)["search.population"],
        **more,
    }


# Settings of the search by the budget of evaluations; those of the package where nothing is said.
ARMS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    LITERAL_PAPER: lambda evaluations: _paper(evaluations, **{"search.operators.mutations": LITERAL}),
    PAPER: _paper,
    "NSGA-II, the paper's operators": lambda evaluations: {
        **paper_settings(evaluations),
        "search.operators.ratio_step": 0.05,
    },
    OURS: lambda evaluations: {},
    DESCENT: lambda evaluations: {"search.descent.looks": LOOKS},
}
# Ours without the descent, one thing left out at a time.
LEFT_OUT: Mapping[str, str] = {
    "mask mutation": "mask_probability",
    "ratio mutation": "ratio_probability",
    "crossover": "crossover_probability",
    "depth": "depth_probability",
    "guidance": "guided_probability",
}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One search: what is measured, where, and with which settings."""

    arm: str
    ratio: float
    seed: int
    evaluations: int
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Names it in the folder."""
        words = "".join(letter if letter.isalnum() else "-" for letter in self.arm.lower())
        return f"{words}-r{round(100 * self.ratio)}-s{self.seed}-e{self.evaluations}"


class Counted:
    """An evaluator that notes which genomes it is asked for, whether the cache knows them or not."""

    def __init__(self, evaluator: CachedEvaluator) -> None:
        self.asked: dict[str, None] = {}
        self._evaluator = evaluator

    def evaluate(self, genomes: Sequence[Genome], *, on_result: OnResult = unheard) -> list[float]:
        """Evaluate genomes."""
        self.asked |= dict.fromkeys(genome.digest() for genome in genomes)
        return self._evaluator.evaluate(genomes, on_result=on_result)


class Bench:
    """Model, text and calibration, loaded once for all searches.

    Args:
        prepared: The problem.
        text: What finished subnets are measured on.
        folder: Keeps the searches.
        finish: The finishing method.
    """

    def __init__(self, prepared: Prepared, text: WindowSet, folder: Path, *, finish: str) -> None:
        self._text = text
        self._folder = folder
        evaluator = prepared.evaluator(prepared.splits.fitness, metric=prepared.problem.quality)
        self._cache = EvaluationCache(cache_dir() / "bench-evaluations.sqlite", identity=evaluator.identity)
        self._evaluator = CachedEvaluator(evaluator, self._cache)
        self._prepared = prepared
        finished = override_problem(prepared.problem, {"reconstruction.method": finish})
        self._finisher = Finisher(replace(prepared, problem=finished))
        self._measured: dict[str, float] = {}

    def row(self, cell: Cell) -> dict[str, Any]:
        """Search, finish the best subnet, measure."""
        run_dir = self._folder / cell.name
        problem = override_problem(
            self._prepared.problem,
            {
                "seed": cell.seed,
                "search.target_ratios": [cell.ratio],
                "search.evaluations": cell.evaluations,
                **cell.settings,
            },
        )
        started = time.perf_counter()
        start, asked = self._descent(problem, run_dir)
        population = min(problem.search.population, cell.evaluations)
        # The first population takes the start in, behind one other genome; those are paid for.
        free = min(len(start), population - 1)
        budget = max(population, cell.evaluations - len(asked) + free)
        problem = override_problem(problem, {"search.evaluations": budget, "search.population": population})
        result = Search(
            problem=problem,
            space=self._prepared.space,
            cost_model=self._prepared.cost_model,
            scores=self._prepared.calibration.scores,
            evaluator=self._evaluator,
            directory=run_dir,
            start=start,
        ).run(resume=True)
        searched = time.perf_counter() - started
        best = min(result.evaluations, key=lambda row: row.objectives[problem.quality])
        assert best.cost.inheriting_ratio <= cell.ratio
        return {
            "arm": cell.arm,
            "ratio": cell.ratio,
            "seed": cell.seed,
            "perplexity": self._perplexity(best.genome),
            problem.quality: best.objectives[problem.quality],
            "evaluations": len({*asked, *(row.digest for row in result.evaluations)}),
            "of_descent": len(asked),
            "looks": 1 + LOOKS if asked else 0,
            "population": population,
            "generations": result.generations,
            "seconds": round(searched, 1),
        }

    def _descent(self, problem: Problem, run_dir: Path) -> tuple[list[Genome], list[str]]:
        """What a descent found, and which genomes it asked for; one that was cut off is walked again, from the cache."""
        if not problem.search.descent.looks:
            return [], []
        kept = run_dir / "descent.json"
        if not kept.is_file():
            shutil.rmtree(run_dir, ignore_errors=True)
            counted = Counted(self._evaluator)
            found = descend(
                replace(self._prepared, problem=problem),
                run_dir,
                scores=self._prepared.calibration.scores,
                evaluator=counted,
                cache=None,
                on_event=show,
                should_stop=lambda: False,
            )
            genomes = [genome.to_bytes().hex() for genome in found]
            kept.write_text(json.dumps({"found": genomes, "asked": list(counted.asked)}), encoding="utf-8")
        walked = json.loads(kept.read_text(encoding="utf-8"))
        return [Genome.from_bytes(bytes.fromhex(genome)) for genome in walked["found"]], walked["asked"]

    def _perplexity(self, genome: Genome) -> float:
        if genome.digest() not in self._measured:
            edit = self._finisher.finish([genome])[0].edit
            model = build_subnet(self._prepared.dense, genome, edit=edit)
            self._measured[genome.digest()] = model_perplexity(model, self._text)
        return self._measured[genome.digest()]


def show(event: Event) -> None:
    """What happened, for whoever waits."""
    if isinstance(event, StageFinished):
        print(event, file=sys.stderr, flush=True)


def cells(
    *,
    arms: Sequence[str],
    ratios: Sequence[float],
    seeds: Sequence[int],
    ablation: float,
    ablated: Sequence[int],
    evaluations: int,
    ablation_evaluations: int,
) -> list[Cell]:
    """All searches, seed by seed, so that a broken-off run has whole pairs.

    Args:
        arms: Of the comparison.
        ratios: Of the comparison.
        seeds: Of the comparison.
        ablation: Ratio of the ablation.
        ablated: Seeds of the ablation.
        evaluations: Budget of a search of the comparison, its descent included.
        ablation_evaluations: Budget of a search of the ablation.
    """
    wanted = []
    for seed in seeds:
        wanted += [
            Cell(arm=arm, ratio=ratio, seed=seed, evaluations=evaluations, settings=ARMS[arm](evaluations))
            for ratio in ratios
            for arm in arms
        ]
        if seed in ablated:
            left_out = {f"{OURS}, no {what}": {f"search.operators.{key}": 0.0} for what, key in LEFT_OUT.items()}
            wanted += [
                Cell(arm=arm, ratio=ablation, seed=seed, evaluations=ablation_evaluations, settings=settings)
                for arm, settings in {OURS: {}, **left_out}.items()
            ]
    return list({cell.name: cell for cell in wanted}.values())


def loaded_problem(data: Path, arguments: argparse.Namespace) -> tuple[Problem, Path]:
    """The front's model, text and space, the package's operators, and no descent unless an arm has one."""
    loaded = load_problem(
        PROBLEM,
        overrides=[
            *front_overrides(data, seed=0, evaluations=arguments.evaluations, tokens=arguments.calibration),
            f"data.calibration.tokens={arguments.calibration}",
            f"data.fitness.tokens={arguments.tokens}",
            f'fitness.weights="{arguments.weights}"',
            "reconstruction={}",
            "search.operators={}",
            "search.descent={looks=0}",
            f"search.population={min(16, arguments.evaluations)}",
            "search.target_ratios=[]",
            f"constraints.min_ratio={min([*arguments.ratios, arguments.ablation]) - 0.1}",
        ],
    )
    return loaded.problem, loaded.base_dir


def headline(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Perplexities over those of ours, or of ours with the descent, on the same ratio and seed; geometric means."""
    found = {(row["arm"], row["ratio"], row["seed"]): float(row["perplexity"]) for row in rows}
    ratios: dict[str, list[float]] = {}
    for (arm, ratio, seed), value in found.items():
        ablated = arm.startswith(f"{OURS}, no ")
        base = found.get((OURS if ablated else DESCENT, ratio, seed))
        if base is not None and arm != DESCENT:
            words = arm.removeprefix(f"{OURS}, ") if ablated else f"{arm}_r{round(100 * ratio)}"
            key = words.replace(",", "").replace("'", "").replace("-", "").replace(" ", "_").lower()
            ratios.setdefault(key, []).append(value / base)
    return {key: geometric_mean(values) for key, values in ratios.items()}


def main() -> None:
    """Search, finish, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--evaluations", type=int, default=64, help="of each search, its descent included")
    parser.add_argument("--tokens", type=int, default=1024, help="of the fitness")
    parser.add_argument("--calibration", type=int, default=16384, help="tokens of calibration and finish")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--ratios", type=float, nargs="*", default=[0.8, 0.6])
    parser.add_argument("--ablation", type=float, default=0.7, help="ratio of the ablation")
    parser.add_argument("--ablation-seeds", type=int, default=1, help="first so many seeds have an ablation; 0 = none")
    parser.add_argument("--ablation-evaluations", type=int, default=192, help="of each search of the ablation")
    parser.add_argument("--weights", choices=["inherited", "reconstructed"], default="reconstructed", help="of fitness")
    parser.add_argument("--finish", default="closed_form")
    parser.add_argument("--windows", type=int, default=4, help="of the validation text")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-schedule"))
    parser.add_argument("--dry", action="store_true", help="print the result, do not write it")
    arguments = parser.parse_args()
    keep_freed_memory()
    data = arguments.data.resolve()
    problem, base_dir = loaded_problem(data, arguments)
    budget = f"{arguments.tokens}-{arguments.calibration}-{arguments.weights}"
    folder = arguments.folder / budget
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / f"rows-{arguments.finish}-{arguments.windows}.json"
    done: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    ablated = arguments.seeds[: arguments.ablation_seeds]
    wanted = cells(
        arms=arguments.arms,
        ratios=arguments.ratios,
        seeds=arguments.seeds,
        ablation=arguments.ablation,
        ablated=ablated,
        evaluations=arguments.evaluations,
        ablation_evaluations=arguments.ablation_evaluations,
    )
    missing = [cell for cell in wanted if cell.name not in done]
    dense_perplexity = done.get("dense", {}).get("perplexity")
    if missing or dense_perplexity is None:
        prepared = prepare(problem, base_dir=base_dir, on_event=show)
        text = validation_windows(data, prepared.dense, arguments.windows)
        dense_perplexity = dense_perplexity or model_perplexity(prepared.dense.model, text)
        done["dense"] = {"perplexity": dense_perplexity}
        bench = Bench(prepared, text, folder, finish=arguments.finish)
        for cell in missing:
            done[cell.name] = bench.row(cell)
            kept.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(done[cell.name]), file=sys.stderr, flush=True)
    rows = [done[cell.name] for cell in wanted]
    found = headline(rows)
    about = (
        f"SmolLM2-135M-Instruct, each search at one inheriting ratio, {arguments.evaluations} evaluated candidates each, "
        f"{arguments.ablation_evaluations} where something is left out "
        f"(KL to the dense model on {arguments.tokens:,} tokens of WikiText-2 train, {arguments.weights} weights, `obs` "
        f"scores from {arguments.calibration:,} tokens). The best candidate is finished by `{arguments.finish}` on the "
        f"calibration text; `perplexity`: first {arguments.windows} windows of 1,024 tokens of WikiText-2 valid, float32, "
        f'dense {dense_perplexity:.2f}. `paper`: `search.algorithm = "paper"` with the direct mask mutation, or with '
        "Algorithm 1 as printed; NSGA-II with the settings that the studies call the paper's, and with the package's "
        "defaults. The evaluations of a descent count (`of_descent`); each of its `looks`, which cost about four "
        "candidates on 2,048 tokens, does not. `seconds` of searches that found values in the cache are shorter. "
        "Headline: perplexity over that of our operators with the descent, for what is left out (`no_...`) over that of "
        f"all our operators without one; geometric means over {len(arguments.seeds)} and {len(ablated)} seeds."
    )
    print(json.dumps(found, indent=1), about, sep="\n")
    if not arguments.dry:
        write_result("schedule", about=about, headline=found, rows=rows)


if __name__ == "__main__":
    main()
