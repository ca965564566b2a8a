"""Margin: what a fitness that looks at answers changes, on questions and on prose, at equal time.

``make bench NAME=margin DATA=folder``; DATA is a folder with ``text/``, ``qa/`` and ``lm_eval_tasks/``. Set
HF_HUB_OFFLINE=1 and HF_DATASETS_OFFLINE=1 where there is no hub. Only training rows of the question sets are searched on;
what is measured are their validation and test rows. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks._result import write_result
from benchmarks.evaluation import TASKS
from benchmarks.front import PROBLEM, overrides, validation_windows
from benchmarks.qa_mix import sources
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.evaluation import TaskScore, TaskSuite, model_perplexity
from nas_llm.events import CandidateEvaluated, Event, StageFinished, StageStarted, ignore
from nas_llm.finishing import Finisher
from nas_llm.search import History
from nas_llm.session import prepare
from nas_llm.space import Evaluation, Genome
from nas_llm.subnet import build_subnet, keep_freed_memory
from nas_llm.workflow import run_search

# The quality objective, and whether half of the text that it is measured on is questions with their right answers.
ARMS = {
    "kl": ("kl", False),
    "kl, questions in the text": ("kl", True),
    "margin": ("margin", False),
    "kl + margin": ("fitness", False),
}
METRIC = "acc_norm"


@dataclass(frozen=True)
class Chosen:
    """What is finished.

    Attributes:
        id: Its name.
        genome: Its masks.
    """

    id: str
    genome: Genome


def main() -> None:
    """Search with each fitness, finish alike, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=0.6)
    parser.add_argument("--seconds", type=float, default=1800, help="CPU seconds of each search, its descent included")
    parser.add_argument("--looks", type=int, default=4, help="of the descent")
    parser.add_argument("--population", type=int, default=20)
    parser.add_argument("--weight", type=float, default=0.5, help="of margin beside kl")
    parser.add_argument("--count", type=int, default=96, help="questions")
    parser.add_argument("--tokens", type=int, default=8192, help="of the questions")
    parser.add_argument("--calibration", type=int, default=32768, help="tokens")
    parser.add_argument("--limit", type=int, help="documents of each task; default all")
    parser.add_argument("--windows", type=int, default=16, help="of 1,024 tokens of prose")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--only", nargs="*", choices=list(ARMS), help="arms to run; the result shows those that are there"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-margin"))
    arguments = parser.parse_args()
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for seed in arguments.seeds:
        for arm in ARMS:
            folder = arguments.folder / f"{re.sub('[^a-z]+', '-', arm)}-{seed}"
            kept = folder.with_suffix(".json")
            if not kept.is_file():
                if arguments.only and arm not in arguments.only:
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                kept.write_text(json.dumps(measure(arm, seed, folder, arguments), indent=1) + "\n", encoding="utf-8")
            rows.append(json.loads(kept.read_text(encoding="utf-8")))
            print(json.dumps(rows[-1]), flush=True)
    if {row["fitness"] for row in rows} > {"kl"}:
        publish(rows, arguments)


def problem(arm: str, seed: int, arguments: argparse.Namespace) -> LoadedProblem:
    """The problem of one arm: only what candidates are measured by differs."""
    data = arguments.data.resolve()
    quality, mixed = ARMS[arm]
    terms = f"fitness.terms={{kl=1.0, margin={float(arguments.weight)}}}"
    asked = f"data.questions={{count={arguments.count}, tokens={arguments.tokens}, sources=[{questions(data)}]}}"
    return load_problem(
        PROBLEM,
        overrides=[
            *overrides(data, seed=seed, evaluations=100_000, tokens=arguments.calibration),
            f"data.calibration.tokens={arguments.calibration}",
            f"data.fitness.sources=[{sources(data, questions=mixed)}]",
            f'objectives=["{quality}", "block_params"]',
            *([asked] if quality != "kl" else []),
            *([terms] if quality == "fitness" else []),
            f"search.target_ratios=[{arguments.ratio}]",
            f"search.descent.looks={arguments.looks}",
            f"search.population={arguments.population}",
            'reconstruction.method="closed_form"',
        ],
    )


def questions(data: Path) -> str:
    """Training rows of the three question sets, in the form of the tasks, as many of each."""
    ask = 'template="Question: {question}\\nAnswer: {answer}", choices="choices.text", labels="choices.label"'
    return ", ".join(
        (
            f'{{source="{data}/qa/arc_easy/train.jsonl", {ask}, answer="answerKey"}}',
            f'{{source="{data}/qa/openbookqa/train.jsonl", '
            'template="{question_stem} {answer}", choices="choices.text", labels="choices.label", answer="answerKey"}',
            f'{{source="{data}/qa/piqa/train.jsonl", '
            'template="Question: {goal}\\nAnswer: {answer}", choices=["sol1", "sol2"], answer="label"}',
        )
    )


def searched(loaded: LoadedProblem, run_dir: Path, seconds: float) -> dict[str, Any]:
    """Descend and search for so many CPU seconds, loading and calibration not counted; what was done in them.

    The first population, which what the descent found is part of, is always evaluated.
    """
    begun: list[float] = []
    done = {"candidates": 0, "of the descent": 0}

    def note(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage in ("descent", "search") and not begun:
            begun.append(time.process_time())
        if isinstance(event, StageFinished):
            print(event, file=sys.stderr, flush=True)
            found = re.search(r"(\d+) candidates", event.detail)
            done["of the descent"] += int(found[1]) if event.stage == "descent" and found else 0
        done["candidates"] += isinstance(event, CandidateEvaluated)

    def over() -> bool:
        return done["candidates"] >= loaded.problem.search.population and time.process_time() - begun[0] >= seconds

    run_search(loaded, run_dir=run_dir, on_event=note, should_stop=over, shared_cache=False)
    return {**done, "cpu_seconds": round(time.process_time() - begun[0])}


def best(run_dir: Path, quality: str, ratio: float) -> Evaluation:
    """The candidate of the lowest fitness among those no larger than a ratio."""
    with History(run_dir / "history.sqlite", read_only=True) as history:
        rows = [row for row in history.rows() if row.cost.inheriting_ratio <= ratio]
    return min(rows, key=lambda row: row.objectives[quality])


def measure(arm: str, seed: int, run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One search, and its best subnet after the closed form."""
    loaded = problem(arm, seed, arguments)
    done = searched(loaded, run_dir, arguments.seconds)
    found = best(run_dir, loaded.problem.quality, arguments.ratio)
    prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore, to_search=False)
    (edited,) = Finisher(prepared).finish([Chosen(arm, found.genome)])
    model = build_subnet(prepared.dense, found.genome, edit=edited.edit)
    data = arguments.data.resolve()
    perplexity = model_perplexity(model, validation_windows(data, prepared.dense, arguments.windows))
    suite = TaskSuite(TASKS, include_path=data / "lm_eval_tasks", limit=arguments.limit)
    small = copy.deepcopy(model).to(torch.bfloat16)
    scores = {score.task: score for score in suite.run(small, prepared.dense.tokenizer) if score.metric == METRIC}
    return {
        "fitness": arm,
        "seed": seed,
        **done,
        "value": found.objectives[loaded.problem.quality],
        "ratio": found.cost.inheriting_ratio,
        "perplexity": perplexity,
        **{task: [100 * scores[task].value, 100 * error(scores[task])] for task in TASKS},
    }


def error(score: TaskScore) -> float:
    """The standard error of a task's score; 0 where there is one document."""
    return score.stderr or 0.0


def publish(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the result: every arm beside ``kl``."""
    seeds = sorted({row["seed"] for row in rows})

    def accuracy(row: dict[str, Any]) -> float:
        return mean(row[task][0] for task in TASKS)

    def sampling(row: dict[str, Any]) -> float:
        """Standard error of the mean over the tasks, from their documents."""
        return float(sum(row[task][1] ** 2 for task in TASKS) ** 0.5 / len(TASKS))

    table = [
        {
            "fitness": row["fitness"],
            "seed": row["seed"],
            "perplexity": row["perplexity"],
            **{task: f"{row[task][0]:.1f} ± {row[task][1]:.1f}" for task in TASKS},
            "mean accuracy": f"{accuracy(row):.2f} ± {sampling(row):.2f}",
            "candidates": row["candidates"] + row["of the descent"],
            "cpu_seconds": row["cpu_seconds"],
            "value": row["value"],
        }
        for row in rows
    ]
    plain = {row["seed"]: row for row in rows if row["fitness"] == "kl"}
    headline: dict[str, float] = {}
    for arm in list(ARMS)[1:]:
        pairs = [(row, plain[row["seed"]]) for row in rows if row["fitness"] == arm and row["seed"] in plain]
        if not pairs:
            continue
        key = re.sub("[^a-z]+", "_", arm)
        gains = [accuracy(row) - accuracy(other) for row, other in pairs]
        headline[f"accuracy_gain_{key}"] = mean(gains)
        if len(gains) > 1:
            headline[f"accuracy_gain_{key}_stderr"] = stdev(gains) / len(gains) ** 0.5
        headline[f"perplexity_ratio_{key}"] = mean(row["perplexity"] / other["perplexity"] for row, other in pairs)
    documents = "all documents" if arguments.limit is None else f"the first {arguments.limit:,} documents"
    write_result(
        "margin",
        about=(
            f"SmolLM2-135M-Instruct at an inheriting ratio of at most {arguments.ratio:g}: a descent of "
            f"{arguments.looks} looks and a search, together {arguments.seconds:g} CPU seconds for each fitness (or as "
            f"long as the descent and the first population took). `kl` on 2,048 tokens of WikiText-2 train, or with half of them training rows of "
            "ARC-easy, OpenBookQA and PIQA with the right answer; `margin` on "
            f"{arguments.count} training rows of the three, at most {arguments.tokens:,} tokens; their sum with weights 1 "
            f"and {arguments.weight:g}. Candidates are evaluated, and the best is finished, by the closed form on "
            f"{arguments.calibration:,} tokens of WikiText-2 train. Perplexity: first {arguments.windows} windows of "
            "1,024 tokens of WikiText-2 valid (lower is better). Tasks: acc_norm of lm-eval in %, zero-shot, in bfloat16, with "
            f"standard error over documents, on {documents} of PIQA validation, ARC-easy test and OpenBookQA test. The "
            f"headline compares with `kl`, paired by seed, over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}; its "
            "standard errors are those over seeds."
        ),
        headline=headline,
        rows=table,
    )


if __name__ == "__main__":
    main()
