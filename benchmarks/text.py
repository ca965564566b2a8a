"""Text: what a search on broad text keeps that a search on WikiText-2 alone loses, and what a user without data gets.

``make bench NAME=text DATA=folder``; DATA is a folder with ``text/``, ``qa/`` and ``lm_eval_tasks/``. Set HF_HUB_OFFLINE=1
and HF_DATASETS_OFFLINE=1 where there is no hub. Searches and measured models are kept in ``--folder``: run again, it goes
on where it stopped; ``--only ARM...`` runs some arms, in processes side by side if you like.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks._result import ROOT, write_result
from benchmarks.evaluation import TASKS
from benchmarks.front import PROBLEM, best_at, overrides
from nas_llm.config import load_problem
from nas_llm.data import WindowSet, packaged_sample, perplexity_windows, read_texts
from nas_llm.evaluation import TaskSuite, model_perplexity
from nas_llm.events import Event, StageFinished, ignore
from nas_llm.finishing import Finisher
from nas_llm.models import DenseModel, load_model
from nas_llm.session import SubnetMeasure, prepare
from nas_llm.session.front import best_uniform
from nas_llm.session.subnets import as_subnet, export_subnet
from nas_llm.settings import OFF_KIND
from nas_llm.space import Genome
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import evaluate_models, open_run, run_search

NARROW, BROAD, NOTHING, KINDS = "WikiText-2", "auto, WikiText-2 and C4", "self", "auto"
# The documents of the C4 file that the broad search may read; the others are measured on.
C4_READ = 500
# Documents of the file that come before it cost nothing: windows of what is measured.
C4_WINDOWS = 16


@dataclass(frozen=True)
class Arm:
    """One search.

    Attributes:
        sources: Of calibration, fitness and finish.
        ratios: Its target ratios.
        tasks: Whether its points answer questions.
    """

    sources: str
    ratios: tuple[float, ...]
    tasks: bool = False


def arms(data: Path, c4: Path) -> Mapping[str, Arm]:
    """All searches, by what they read."""
    wiki = f'{{source="{data}/text/wikitext2_train_head.raw"}}'
    return {
        NARROW: Arm(wiki, (0.8, 0.6), tasks=True),
        BROAD: Arm(f'{{source="auto"}}, {wiki}, {{source="{c4}"}}', (0.8, 0.6), tasks=True),
        NOTHING: Arm('{source="self"}', (0.7,)),
        KINDS: Arm('{source="auto"}', (0.7,)),
    }


def main() -> None:
    """Search, finish, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=40, help="after the descent")
    parser.add_argument("--looks", type=int, default=6, help="of the descent at each target")
    parser.add_argument("--calibration", type=int, default=32768, help="tokens")
    parser.add_argument("--tokens", type=int, default=65536, help="of the finish")
    parser.add_argument("--windows", type=int, default=16, help="of WikiText-2 test")
    parser.add_argument("--limit", type=int, help="documents of each task; default all")
    parser.add_argument("--only", nargs="*", help="arms to run; the result needs all")
    parser.add_argument("--folder", type=Path, default=Path("runs/bench-text"))
    arguments = parser.parse_args()
    keep_freed_memory()
    data, folder = arguments.data.resolve(), arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = (data / "text" / "c4_calibration.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    read, judged = folder / "c4-read.jsonl", folder / "c4-judged.jsonl"
    read.write_text("".join(lines[:C4_READ]), encoding="utf-8")
    judged.write_text("".join(lines[C4_READ:]), encoding="utf-8")
    dense = load_model("smollm2-135m")
    texts = {
        "wikitext": _windows(dense, data / "text" / "wikitext2_test_peers.raw", arguments.windows),
        "c4": _windows(dense, judged, C4_WINDOWS),
        "off_text": _windows(dense, packaged_sample("smollm2-135m", OFF_KIND), None),
    }
    suite = TaskSuite(TASKS, include_path=data / "lm_eval_tasks", limit=arguments.limit)
    rows = [
        _kept(folder / "dense.json", lambda: [{"searched on": "dense", **_scores(dense, dense.model, texts, suite)}])[0]
    ]
    for name, arm in arms(data, read).items():
        kept = folder / f"{''.join(letter if letter.isalnum() else '-' for letter in name.lower())}.json"
        if kept.is_file() or not arguments.only or name in arguments.only:
            rows += _kept(
                kept,
                lambda name=name, arm=arm, kept=kept: measured(
                    name, arm, kept.with_suffix(""), texts, suite, arguments
                ),
            )
    if len({row["searched on"] for row in rows}) == 1 + len(arms(data, read)):
        exports = [row["export"] for row in rows if row["searched on"] == BROAD]
        publish(rows, _kept(folder / "served.json", lambda: served(exports, data)), arguments)


def measured(
    name: str, arm: Arm, run_dir: Path, texts: Mapping[str, WindowSet], suite: TaskSuite, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """The points of one search, and the best uniform model beside each, finished alike."""
    split = f"sources=[{arm.sources}]"
    loaded = load_problem(
        PROBLEM,
        overrides=[
            *overrides(
                arguments.data.resolve(),
                seed=arguments.seed,
                evaluations=arguments.evaluations,
                tokens=arguments.tokens,
            ),
            f"data.calibration={{tokens={arguments.calibration}, {split}}}",
            f"data.fitness={{tokens=2048, {split}}}",
            f"reconstruction.sources=[{arm.sources}]",
            f"search.target_ratios={list(arm.ratios)}",
            f"search.descent.looks={arguments.looks}",
            "constraints.min_ratio=0.5",
        ],
    )
    spent = run_dir.with_suffix(".seconds")
    if not (run_dir / "front.json").is_file():
        before = float(spent.read_text()) if spent.is_file() else 0.0
        started = time.process_time()
        try:
            resume = (run_dir / "problem.toml").is_file()
            run_search(loaded, run_dir=run_dir, resume=resume, on_event=_show, shared_cache=False)
        finally:
            spent.write_text(f"{before + time.process_time() - started:.0f}\n")
    seconds = float(spent.read_text())
    run = open_run(run_dir)
    prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=ignore, to_search=False)
    found: list[tuple[str, float, Genome]] = []
    for ratio, uniform in zip(arm.ratios, best_uniform(prepared, arm.ratios, ignore), strict=True):
        assert uniform is not None
        found += [("searched", ratio, best_at(run, ratio).genome), ("uniform", ratio, uniform.genome)]
    finisher = Finisher(prepared, memory_gb=8)
    whole = SubnetMeasure(prepared)(prepared.dense.model)
    rows = []
    for (kind, ratio, genome), finished in zip(found, finisher.finish([genome for _, _, genome in found]), strict=True):
        subnet = as_subnet(prepared, genome, finished)
        point = f"{run_dir.name}-{kind}-r{round(100 * ratio)}"
        exported = run_dir / "exports" / point
        shutil.rmtree(exported, ignore_errors=True)
        export_subnet(prepared, subnet, exported, point=point, dense=whole)
        row = {
            "searched on": name,
            "ratio": ratio,
            "allocation": kind,
            **_scores(prepared.dense, subnet.model, texts, suite if arm.tasks else None),
            "MACs of dense": subnet.cost.macs_per_token / prepared.cost_model.dense.macs_per_token,
            "search cpu seconds": seconds,
            "export": str(exported.relative_to(ROOT)),
        }
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def _scores(dense: DenseModel, model: Any, texts: Mapping[str, WindowSet], suite: TaskSuite | None) -> dict[str, float]:
    found = {text: model_perplexity(model, windows) for text, windows in texts.items()}
    if suite is None:
        return found
    # Four times as fast on CPUs that have it; every row alike.
    judged = copy.deepcopy(model).to(torch.bfloat16)
    tasks = {score.task: score for score in suite.run(judged, dense.tokenizer) if score.metric == "acc"}
    errors = sum((tasks[task].stderr or 0.0) ** 2 for task in TASKS) ** 0.5 / len(TASKS)
    mean = sum(tasks[task].value for task in TASKS) / len(TASKS)
    return {**found, "mean accuracy": 100 * mean, "standard error": 100 * errors}


def _windows(dense: DenseModel, path: Path | None, count: int | None) -> WindowSet:
    assert path is not None
    texts = read_texts(path)
    return perplexity_windows(texts, tokenizer=dense.tokenizer, window=1024, max_windows=count, source=path.name)


def _served_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    names = ("decode speed", "peak memory", "KV cache")
    if not row:
        return dict.fromkeys(("whole test", *names), "")
    whole = f"{row['whole test']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    return {"whole test": whole, **{name: row[name] for name in names}}


def _kept(path: Path, make: Any) -> list[dict[str, Any]]:
    if not path.is_file():
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


def _show(event: Event) -> None:
    if isinstance(event, StageFinished):
        print(event, file=sys.stderr, flush=True)


def served(exports: Sequence[str], data: Path) -> list[dict[str, Any]]:
    """The dense model and exports on the whole test file, on the clock and in memory."""
    found = evaluate_models(
        ["smollm2-135m", *(str(ROOT / export) for export in exports)],
        base="smollm2-135m",
        text=data / "text" / "wikitext2_test_peers.raw",
        windows="all",
        dtype=torch.bfloat16,
        latency=True,
        memory=True,
    )
    rows = []
    for export, row in zip(["dense", *exports], found, strict=True):
        assert row.texts[0].interval is not None
        assert row.speed is not None
        assert row.memory is not None
        rows.append(
            {
                "export": export,
                "whole test": row.perplexity,
                "low": row.texts[0].interval.low,
                "high": row.texts[0].interval.high,
                "decode speed": row.speed.decode_speedup,
                "prefill speed": row.speed.prefill_speedup,
                "peak memory": row.memory.peak_ratio,
                "KV cache": row.memory.kv_cache_ratio,
            }
        )
    return rows


def publish(rows: Sequence[dict[str, Any]], in_use: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Write the result."""
    by_export = {row["export"]: row for row in in_use}
    dense = rows[0]
    table = [
        {
            "searched on": row["searched on"],
            "ratio": row.get("ratio", ""),
            "allocation": row.get("allocation", ""),
            **{text: row[text] / dense[text] for text in ("wikitext", "c4", "off_text")},
            "mean accuracy": f"{row['mean accuracy']:.1f} ± {row['standard error']:.1f}"
            if "mean accuracy" in row
            else "",
            **_served_columns(by_export.get(row.get("export", "dense"), {})),
            "MACs": row.get("MACs of dense", ""),
            "search cpu seconds": row.get("search cpu seconds", ""),
        }
        for row in rows
    ]

    def at(name: str, ratio: float) -> dict[str, Any]:
        wanted = (name, ratio, "searched")
        return next(row for row in rows if (row["searched on"], row.get("ratio"), row.get("allocation")) == wanted)

    broad, narrow = at(BROAD, 0.8), at(NARROW, 0.8)
    write_result(
        "text",
        about=(
            f"SmolLM2-135M-Instruct: one search by what it reads, each with the settings of the published front but "
            f"{arguments.calibration:,} tokens of calibration, {arguments.looks} looks at each target and "
            f"{arguments.evaluations} evaluations after them, finished as published on {arguments.tokens:,} tokens of the same "
            f"sources; beside each point the better uniform model, finished alike. Times dense: `wikitext`, first "
            f"{arguments.windows} windows of 1,024 tokens of WikiText-2 test (dense {dense['wikitext']:.2f}); `c4`, first "
            f"{C4_WINDOWS} windows of the half of the C4 file that no search read (dense {dense['c4']:.2f}); `off_text`, "
            f"letters that the dense model wrote, which no search or finish read (dense {dense['off_text']:.2f}). Mean accuracy "
            f"in % on PIQA, ARC-easy and OpenBookQA (bfloat16); `whole test`: perplexity on all windows of WikiText-2 test with its 95 % interval, "
            f"`decode speed`, `peak memory` and `KV cache`: of the export in transformers beside the dense model, 32 tokens "
            f"after a prompt of 512 (bfloat16). One seed."
        ),
        headline={
            "c4_of_dense_r80": broad["c4"] / dense["c4"],
            "wikitext_of_dense_r80": broad["wikitext"] / dense["wikitext"],
            "off_text_of_dense_r80": broad["off_text"] / dense["off_text"],
            "task_gain": broad["mean accuracy"] - narrow["mean accuracy"],
            "self_text_gain": 1.0 - at(KINDS, 0.7)["wikitext"] / at(NOTHING, 0.7)["wikitext"],
        },
        rows=table,
    )


if __name__ == "__main__":
    main()
