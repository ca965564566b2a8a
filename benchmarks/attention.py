"""Attention: fronts of each unit of attention pruning, at equal evaluated tokens and with the same finish.

``make bench NAME=attention DATA=folder``; DATA is a folder with ``text/``. Settings are those of the published front, but
three target ratios and less text, and modes that try fewer changes of attention have more looks of the descent instead.
Everything is measured on validation text; the test text is not read. Run again, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from benchmarks.front import PROBLEM, best_at, overrides, validation_windows
from nas_llm.config import load_problem, override_problem
from nas_llm.evaluation import model_perplexity
from nas_llm.events import Event, StageFinished, ignore
from nas_llm.finishing import Finisher
from nas_llm.models import load_model
from nas_llm.search.descent import descent_effort
from nas_llm.session import Prepared, prepare
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet, keep_freed_memory
from nas_llm.workflow import open_run, run_search

RATIOS = (0.7, 0.6, 0.5)
# Tokens of all windows, of the search and of what is measured: subnets that were chosen on shorter ones lose more where
# the context is longer, those with cut heads most.
WINDOW = 1024
# What one look costs beside a candidate, in candidates: a forward and a backward pass on as many tokens.
LOOK = 4


@dataclass(frozen=True)
class Mode:
    """A unit of attention pruning.

    Attributes:
        attention: ``space.attention``.
        rotate: ``space.rotate_values``.
        looks: Looks of the descent at each target.
    """

    attention: str | list[str]
    rotate: bool
    looks: int


def modes() -> Mapping[str, Mode]:
    """All modes; what one has more to try at each target, another has as looks, so that all evaluate as much."""
    both = ["kv_group", "head_dim_split"]
    return {
        "kv_group": Mode("kv_group", False, 10),
        "head_dim": Mode("head_dim", False, 9),
        "head_dim, rotated": Mode("head_dim", True, 9),
        "head_dim_split": Mode("head_dim_split", False, 7),
        "head_dim_split, rotated": Mode("head_dim_split", True, 7),
        "both": Mode(both, False, 4),
        "both, rotated": Mode(both, True, 4),
    }


def main() -> None:
    """Search in every mode, finish, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=40, help="of the evolution after the descent")
    parser.add_argument("--calibration", type=int, default=32768, help="tokens")
    parser.add_argument("--tokens", type=int, default=16384, help="of the finish")
    parser.add_argument("--finish", nargs="+", default=["closed_form", "sequential"], help="of the modes that are run")
    parser.add_argument("--windows", type=int, default=8, help="of the validation text")
    parser.add_argument("--only", nargs="*", help="modes to run; the result shows those that are there")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-attention"))
    arguments = parser.parse_args()
    keep_freed_memory()
    known = modes()
    rows: dict[str, dict[str, Any]] = {}
    for name, mode in known.items():
        kept = arguments.runs / f"{re.sub('[^a-z]+', '-', name)}.json"
        if not kept.is_file():
            if arguments.only and name not in arguments.only:
                continue
            row = {"mode": name, **measure(mode, kept.with_suffix(""), arguments)}
            kept.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
        rows[name] = json.loads(kept.read_text(encoding="utf-8"))
        print(json.dumps(rows[name]), flush=True)
    if "kv_group" in rows and len(rows) > 1:
        publish(list(rows.values()), arguments, missing=[name for name in known if name not in rows])


def measure(mode: Mode, run_dir: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One mode: its search, and its points finished in two ways, on validation text."""
    data, seen = arguments.data.resolve(), [0]

    def note(event: Event) -> None:
        if isinstance(event, StageFinished):
            print(event, file=sys.stderr, flush=True)
            found = re.search(r"(\d+) candidates", event.detail)
            if event.stage == "descent" and found:
                seen[0] = int(found[1])

    chosen = overrides(data, seed=arguments.seed, evaluations=arguments.evaluations, tokens=arguments.tokens)
    loaded = load_problem(
        PROBLEM,
        overrides=[
            *chosen,
            f"space.attention={json.dumps(mode.attention)}",
            f"space.rotate_values={json.dumps(mode.rotate)}",
            f"search.target_ratios={list(RATIOS)}",
            f"search.descent.looks={mode.looks}",
            f"data.calibration.tokens={arguments.calibration}",
            f"data.window={WINDOW}",
        ],
    )
    started = time.process_time()
    if not (run_dir / "front.json").is_file():
        run_search(
            loaded,
            run_dir=run_dir,
            resume=(run_dir / "problem.toml").is_file(),
            on_event=note,
            shared_cache=False,
        )
    searched = time.process_time() - started
    run = open_run(run_dir)
    points = {ratio: best_at(run, ratio) for ratio in RATIOS}
    prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore, to_search=False)
    windows = validation_windows(data, prepared.dense, arguments.windows)
    # On the way to a target the descent looks, too.
    row: dict[str, Any] = {"looks": descent_effort(RATIOS, layers=1, looks=mode.looks)[0]}
    row["candidates"] = seen[0] + arguments.evaluations
    row["evaluated_tokens"] = 2048 * (row["candidates"] + LOOK * row["looks"])
    row["cpu_seconds"] = round(searched)
    for method in arguments.finish:
        problem = override_problem(loaded.problem, {"reconstruction.method": method})
        finished = Finisher(replace(prepared, problem=problem), memory_gb=8).finish(list(points.values()))
        for (ratio, point), found in zip(points.items(), finished, strict=True):
            model = build_subnet(prepared.dense, point.genome, edit=found.edit)
            row[f"{method}_r{round(100 * ratio)}"] = model_perplexity(model, windows)
    row["ps_per_mac"] = 1e12 * seconds_per_mac(prepared, [point.genome for point in points.values()])
    dense = prepared.cost_model.dense
    for ratio, point in points.items():
        cost = prepared.cost_model(point.genome)
        row[f"kv_cache_r{round(100 * ratio)}"] = cost.kv_cache_bytes / dense.kv_cache_bytes
        row[f"macs_r{round(100 * ratio)}"] = cost.macs_per_token / dense.macs_per_token
    return row


def seconds_per_mac(prepared: Prepared, genomes: Sequence[Genome], *, rounds: int = 3) -> float:
    """Processor time that a candidate takes, per multiply-accumulate that it costs: slicing included, least of some rounds.

    Args:
        prepared: The problem.
        genomes: The candidates.
        rounds: Rounds, each with nothing cached.
    """
    windows = prepared.splits.fitness
    macs = sum(prepared.cost_model(genome).macs_per_token for genome in genomes) * windows.num_tokens
    seconds = []
    for _ in range(rounds):
        evaluator = prepared.local_evaluator(windows, metric="perplexity", weights="inherited")
        started = time.process_time()
        evaluator.evaluate(genomes)
        seconds.append(time.process_time() - started)
    return min(seconds) / macs


def publish(rows: list[dict[str, Any]], arguments: argparse.Namespace, *, missing: Sequence[str]) -> None:
    """Write the result: every mode beside kv_group."""
    table = [
        {
            "mode": row["mode"],
            "ratio": ratio,
            "perplexity": row[f"closed_form_r{round(100 * ratio)}"],
            "sequential": row.get(f"sequential_r{round(100 * ratio)}", ""),
            "kv_cache": row[f"kv_cache_r{round(100 * ratio)}"],
            "macs": row[f"macs_r{round(100 * ratio)}"],
            **{
                name: row.get(name, "")
                for name in ("looks", "candidates", "evaluated_tokens", "cpu_seconds", "ps_per_mac")
            },
        }
        for row in rows
        for ratio in RATIOS
    ]
    headline: dict[str, float] = {}
    for ratio in RATIOS:
        found = {row["mode"]: row["perplexity"] for row in table if row["ratio"] == ratio}
        best = min(value for mode, value in found.items() if mode != "kv_group")
        headline[f"best_over_kv_group_r{round(100 * ratio)}"] = best / found["kv_group"]
    dense = load_model("smollm2-135m")
    windows = validation_windows(arguments.data.resolve(), dense, arguments.windows)
    write_result(
        "attention",
        about=(
            f"SmolLM2-135M-Instruct on WikiText-2 validation, first {arguments.windows} windows of 1,024 tokens, dense "
            f"{model_perplexity(dense.model, windows):.2f}: what each unit of attention pruning gives at 0.7, 0.6 and "
            f"0.5 of the block parameters. The settings of the published front, but {arguments.calibration:,} tokens of "
            f"calibration and {arguments.evaluations} evaluations after the descent; `candidates` are all evaluated "
            "genomes, a look of the descent costs four. Every mode gets about the same evaluated tokens: where the "
            "descent tries fewer changes of attention, it looks more often. The windows of the search have as many tokens "
            "as those that are measured: with 512, heads that were cut lose more of the longer context. `perplexity`: after the closed form on the "
            f"calibration text; `sequential`: after the sequential finish on {arguments.tokens:,} tokens, where it was "
            "measured. `kv_cache`, `macs`: shares of the dense model's; `ps_per_mac`: processor time of the evaluator, "
            "picoseconds per multiply-accumulate of the three points. The headline compares `perplexity`. One seed."
            + (f" Not measured yet: {'; '.join(missing)}." if missing else "")
        ),
        headline=headline,
        rows=table,
    )


if __name__ == "__main__":
    main()
