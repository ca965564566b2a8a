"""QA mix: what question-answer text among the prose of a search changes, on questions and on prose.

``make bench NAME=qa_mix DATA=folder``; DATA is a folder with ``text/``, ``qa/`` and ``lm_eval_tasks/``. Set
HF_HUB_OFFLINE=1 and HF_DATASETS_OFFLINE=1 where there is no hub. Only training rows of the question sets are searched on.
Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from benchmarks.evaluation import TASKS
from benchmarks.front import PROBLEM, overrides, show
from nas_llm.config import load_problem
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import evaluate_models, open_run, run_search


def sources(data: Path, *, questions: bool) -> str:
    """Sources of a split: prose, or as much of questions with their right answers, in the form of the tasks."""
    prose = f'{{source="{data}/text/wikitext2_train_head.raw", weight=3}}'
    if not questions:
        return prose
    ask = 'template="Question: {question}\\nAnswer: {answer}", choices="choices.text", labels="choices.label"'
    return ", ".join(
        (
            prose,
            f'{{source="{data}/qa/arc_easy/train.jsonl", {ask}, answer="answerKey"}}',
            f'{{source="{data}/qa/openbookqa/train.jsonl", '
            'template="{question_stem} {answer}", choices="choices.text", labels="choices.label", answer="answerKey"}',
            f'{{source="{data}/qa/piqa/train.jsonl", '
            'template="Question: {goal}\\nAnswer: {answer}", choices=["sol1", "sol2"], answer="label"}',
        )
    )


# What is mixed: the text that candidates are priced on, and the text that weights are refitted to.
ARMS = {"prose": (False, False), "questions in fitness": (True, False), "in fitness and calibration": (True, True)}


def main() -> None:
    """Search three times at one ratio, finish alike, measure questions and prose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=0.8)
    parser.add_argument("--evaluations", type=int, default=60, help="of each search")
    parser.add_argument("--tokens", type=int, default=32768, help="of the calibration")
    parser.add_argument("--limit", type=int, default=300, help="documents of each task")
    parser.add_argument("--windows", type=int, default=8, help="of 1,024 tokens of prose")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-qa-mix"))
    arguments = parser.parse_args()
    keep_freed_memory()
    data = arguments.data.resolve()
    runs = []
    for arm, (fitness, calibration) in ARMS.items():
        run_dir = arguments.folder / arm.replace(" ", "-")
        settings = [
            *overrides(data, seed=arguments.seed, evaluations=arguments.evaluations, tokens=65536),
            f"data.calibration={{tokens={arguments.tokens}, sources=[{sources(data, questions=calibration)}]}}",
            f"data.fitness={{tokens=2048, sources=[{sources(data, questions=fitness)}]}}",
            f"search.target_ratios=[{arguments.ratio}]",
            "search.population=20",
            "search.descent.looks=0",
        ]
        if not (run_dir / "front.json").is_file():
            loaded = load_problem(PROBLEM, overrides=settings)
            run_search(loaded, run_dir=run_dir, resume=(run_dir / "problem.toml").is_file(), on_event=show)
        runs.append(run_dir)
    best = [min(open_run(run).front.points, key=lambda point: point.objectives["kl"]).id for run in runs]
    measured = [
        row
        for run, name in zip(runs, best, strict=True)
        for row in evaluate_models(
            [str(run)],
            points=[name],
            method="closed_form",
            text=data / "text" / "wikitext2_valid.raw",
            windows=arguments.windows,
            tasks=TASKS,
            include_path=data / "lm_eval_tasks",
            limit=arguments.limit,
            on_event=show,
        )
    ]
    # Each call measures the dense model, too; once is enough to show, and its tasks come from the cache.
    kept = [measured[0], *measured[1::2]]
    rows: list[dict[str, Any]] = []
    for arm, row in zip(("dense", *ARMS), kept, strict=True):
        scores = {score.task: score for score in row.tasks if score.metric == "acc"}
        rows.append(
            {
                "searched on": arm,
                "perplexity": row.texts[0].perplexity,
                "inheriting ratio": row.inheriting_ratio,
                **{task: f"{100 * scores[task].value:.1f} ± {100 * (scores[task].stderr or 0):.1f}" for task in TASKS},
                "mean accuracy": 100 * sum(scores[task].value for task in TASKS) / len(TASKS),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    prose, mixed, both = rows[1:]
    write_result(
        "qa_mix",
        about=(
            f"SmolLM2-135M-Instruct at an inheriting ratio of at most {arguments.ratio:g}: searches of "
            f"{arguments.evaluations} evaluations (KL on 2,048 tokens, after the closed form), fitness text either "
            "WikiText-2 train alone or half of it training rows of ARC-easy, OpenBookQA and PIQA with the right answer; "
            f"in the last row the {arguments.tokens:,} calibration tokens, too. The best subnet, refitted by the closed form "
            f"on the calibration text. Perplexity: first {arguments.windows} windows of 1,024 tokens of WikiText-2 valid. "
            f"Tasks, those of the seven whose data are files of DATA: accuracy in %, zero-shot, with standard error, on the first "
            f"{arguments.limit:,} documents of each or as many as there are."
        ),
        headline={
            "accuracy_gain_fitness": mixed["mean accuracy"] - prose["mean accuracy"],
            "accuracy_gain_fitness_and_calibration": both["mean accuracy"] - prose["mean accuracy"],
            "perplexity_ratio_fitness": mixed["perplexity"] / prose["perplexity"],
            "perplexity_ratio_fitness_and_calibration": both["perplexity"] / prose["perplexity"],
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
