"""Front: one Pareto search on WikiText-2, its points finished and exported at five inheriting ratios.

``make bench NAME=front DATA=folder``; DATA is a folder with ``text/``. The test text is read by the last step alone.
Run again, it goes on where it stopped. ``python -m benchmarks.front --seed 1`` is the same with another seed; the next
result of seed 0 shows its rows, too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from benchmarks._result import write_result
from nas_llm.config import load_problem
from nas_llm.data import WindowSet, perplexity_windows
from nas_llm.events import Event, GenerationFinished, StageFinished
from nas_llm.models import DenseModel
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import FrontPoint, Run, evaluate_models, export_points, open_run, run_search

PROBLEM = "smollm2-135m-wikitext2"
RATIOS = (0.9, 0.8, 0.7, 0.6, 0.5)
# What a run of another seed leaves; the run of seed 0 puts it into the result.
ROWS = "rows.json"
# Best published method that was run on this model, text and protocol (Wanda-sp, uniform, least squares with a ridge on
# the update).
PEER = {0.9: 27.29, 0.8: 33.04, 0.7: 41.91, 0.6: 93.06, 0.5: 127.8}


def overrides(data: Path, *, seed: int, evaluations: int, tokens: int) -> list[str]:
    """:data:`PROBLEM` on these texts, with these budgets."""
    wiki, valid = (data / "text" / name for name in ("wikitext2_train_head.raw", "wikitext2_valid.raw"))
    return [
        f"seed={seed}",
        f'data.calibration.sources=[{{source="{wiki}"}}]',
        f'data.fitness.sources=[{{source="{wiki}"}}]',
        f'data.held_out.sources=[{{source="{valid}"}}]',
        f"search.evaluations={evaluations}",
        f"reconstruction.tokens={tokens}",
    ]


def show(event: Event) -> None:
    """What happened, for whoever waits."""
    if isinstance(event, GenerationFinished | StageFinished):
        print(
            event if isinstance(event, StageFinished) else f"{event.evaluations} {event.hypervolume:.4f}",
            file=sys.stderr,
            flush=True,
        )


def best_at(run: Run, ratio: float) -> FrontPoint:
    """The point of the lowest fitness among those no larger than a ratio."""
    return min(run.front.select(["all"], max_ratio=ratio), key=lambda point: point.objectives["kl"])


def validation_windows(data: Path, dense: DenseModel, count: int) -> WindowSet:
    """The first windows of 1,024 tokens of the validation text, on which settings are chosen."""
    return perplexity_windows(
        data / "text" / "wikitext2_valid.raw",
        tokenizer=dense.tokenizer,
        window=1024,
        max_windows=count,
        name="validation",
    )


def main() -> None:
    """Search, export, measure, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=120)
    parser.add_argument("--tokens", type=int, default=65536, help="of the reconstruction")
    parser.add_argument("--memory", type=float, default=8.0, help="GB that the reconstruction may take")
    parser.add_argument(
        "--run", type=Path, help="a try: nothing is written but the run; default runs/bench-front[-SEED]"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    data, seed = arguments.data.resolve(), arguments.seed
    run_dir = arguments.run or Path("runs") / ("bench-front" if not seed else f"bench-front-{seed}")
    loaded = load_problem(
        PROBLEM,
        overrides=overrides(data, seed=seed, evaluations=arguments.evaluations, tokens=arguments.tokens),
    )
    started = time.perf_counter()
    if not (run_dir / "front.json").is_file():
        run_search(loaded, run_dir=run_dir, resume=(run_dir / "problem.toml").is_file(), on_event=show)
    searched = time.perf_counter() - started
    run = open_run(run_dir)
    chosen = {ratio: best_at(run, ratio) for ratio in RATIOS}
    started = time.perf_counter()
    samples = arguments.tokens // loaded.problem.data.window
    records = export_points(run, list(chosen.values()), samples=samples, memory_gb=arguments.memory, on_event=show)
    exported = time.perf_counter() - started
    paths = []
    for record, ratio in zip(records, RATIOS, strict=True):
        link = run_dir / "exports" / f"r{round(100 * ratio)}"
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(record.path, link.parent))
        paths.append(str(link))
    test = data / "text" / "wikitext2_test_peers.raw"
    measured = evaluate_models(["smollm2-135m", *paths], text=test, windows=16, base="smollm2-135m")
    dense, rows = measured[0], []
    for ratio, model, record in zip(RATIOS, measured[1:], records, strict=True):
        assert model.inheriting_ratio is not None
        assert model.perplexity is not None
        assert dense.perplexity is not None
        assert model.inheriting_ratio <= ratio
        rows.append(
            {
                "seed": seed,
                "target": ratio,
                "finish_tokens": arguments.tokens,
                "step": run.problem.reconstruction.step,
                "blend": run.problem.reconstruction.blend,
                "inheriting_ratio": model.inheriting_ratio,
                "perplexity": model.perplexity,
                "of_dense": model.perplexity / dense.perplexity,
                "best_peer": PEER[ratio],
                "macs_ratio": model.macs_per_token / dense.macs_per_token,
                "held_out_perplexity": record.held_out_perplexity,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    print(json.dumps({"dense": dense.perplexity, "search_seconds": searched, "export_seconds": exported}))
    if arguments.run:
        return
    if seed:
        (run_dir / ROWS).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return
    headline = {f"perplexity_r{round(100 * row['target'])}": row["perplexity"] for row in rows}
    for other in sorted(run_dir.parent.glob(f"{run_dir.name}-*/{ROWS}")):
        rows += json.loads(other.read_text(encoding="utf-8"))
    write_result(
        "front",
        about=(
            f"SmolLM2-135M-Instruct on WikiText-2 test, first 16 windows of 1,024 tokens, float32, dense "
            f"{dense.perplexity:.2f}. One search: a descent down the budget by marginals, then {arguments.evaluations} "
            "evaluations (KL to the dense model on 2,048 tokens of WikiText-2 train, candidates after the closed form), "
            "all at five ratios; points finished by the sequential reconstruction on `finish_tokens` tokens of the same "
            "text, with these `step` and `blend`. `best_peer`: the best of seven published methods run on the same "
            "model, text and protocol. Rows of other seeds are the same command with `--seed`; the headline is seed 0."
        ),
        headline=headline,
        rows=rows,
    )


if __name__ == "__main__":
    main()
