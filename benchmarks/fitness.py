"""Fitness: what pricing candidates after reconstruction buys over inherited weights, at equal wall time.

``make bench NAME=fitness DATA=folder``; DATA is a folder with ``text/``. The test text is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from benchmarks._timed_search import timed_search
from benchmarks.front import PROBLEM, overrides, show, validation_windows
from benchmarks.posttrain import best, evaluations, point
from nas_llm.config import load_problem
from nas_llm.errors import ConfigError
from nas_llm.evaluation import model_perplexity
from nas_llm.events import ignore
from nas_llm.finishing._finisher import Finisher
from nas_llm.session._prepare import prepare
from nas_llm.subnet import build_subnet, keep_freed_memory

WEIGHTS = ("inherited", "reconstructed")
_ENDLESS = 1_000_000


def main() -> None:
    """Search twice, finish the best subnets at each mark of the clock alike, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--seconds", type=float, default=360.0, help="of each search")
    parser.add_argument("--marks", type=int, default=3, help="points of each curve")
    parser.add_argument("--windows", type=int, default=8, help="of the validation text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-fitness"))
    arguments = parser.parse_args()
    keep_freed_memory()
    data, rows = arguments.data.resolve(), []
    for weights in WEIGHTS:
        run_dir = arguments.folder / weights
        settings = [
            *overrides(data, seed=arguments.seed, evaluations=_ENDLESS, tokens=65536),
            f"search.target_ratios=[{arguments.ratio}]",
            "search.descent.looks=0",
            f'fitness.weights="{weights}"',
            'reconstruction.method="closed_form"',
        ]
        loaded = load_problem(PROBLEM, overrides=settings)
        log = run_dir / "times.json"
        if not log.is_file():
            if run_dir.exists():
                raise ConfigError(f"{run_dir} was cut off and its clock is lost; remove it")
            log.write_text(
                json.dumps(timed_search(loaded, run_dir, seconds=arguments.seconds, on_event=show)), encoding="utf-8"
            )
        times = json.loads(log.read_text(encoding="utf-8"))
        history = {row.ordinal: row for row in evaluations(run_dir)}
        prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore)
        windows = validation_windows(data, prepared.dense, arguments.windows)
        finisher, known = Finisher(prepared), dict[str, float]()
        for mark in range(1, arguments.marks + 1):
            seconds = arguments.seconds * mark / arguments.marks
            done = [history[ordinal] for at, ordinal in times if at <= seconds]
            chosen = point(weights, best(done, arguments.ratio))
            if chosen.digest not in known:
                edit = finisher.finish([chosen])[0].edit
                model = build_subnet(prepared.dense, chosen.genome, edit=edit)
                known[chosen.digest] = model_perplexity(model, windows)
            row: dict[str, Any] = {
                "fitness.weights": weights,
                "seconds": seconds,
                "evaluations": len(done),
                "perplexity": known[chosen.digest],
            }
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    ends = {row["fitness.weights"]: row["perplexity"] for row in rows}
    write_result(
        "fitness",
        about=(
            f"SmolLM2-135M-Instruct at an inheriting ratio of at most {arguments.ratio:g}, seed {arguments.seed}: two "
            f"searches of {arguments.seconds:g} s without a descent, KL on 2,048 tokens of WikiText-2 train, candidates "
            "priced with inherited weights or after the closed form. The best subnet at each mark of the clock is finished "
            f"by the closed form either way; `perplexity`: first {arguments.windows} windows of 1,024 tokens of "
            "WikiText-2 valid, float32."
        ),
        headline={"reconstructed_over_inherited": ends["reconstructed"] / ends["inherited"]},
        rows=rows,
    )


if __name__ == "__main__":
    main()
