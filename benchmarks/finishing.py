"""Finishing: ways to repair the same subnets, on validation text.

``make bench NAME=finishing DATA=folder``; DATA is a folder with ``text/``, the subnets are those that ``make bench
NAME=front`` found. The test text is not read.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from benchmarks.front import RATIOS, best_at, validation_windows
from nas_llm.config import override_problem
from nas_llm.evaluation import load, model_perplexity
from nas_llm.events import ignore
from nas_llm.finishing._finisher import Finisher
from nas_llm.finishing._settings import with_reconstruction
from nas_llm.session._reopen import reopen
from nas_llm.subnet import build_subnet
from nas_llm.workflow import open_run

SEQUENTIAL = "sequential"
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "inherited weights": {"method": "none"},
    "admm (the paper's)": {"method": "admm"},
    "closed form": {"method": "closed_form"},
    "sequential, full steps": {"method": "sequential", "step": 1.0, "blend": 1.0},
    SEQUENTIAL: {"method": "sequential"},
}


def main() -> None:
    """Finish and measure, variant by variant; what was done is kept and not done again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/bench-front"))
    parser.add_argument("--tokens", type=int, default=16384, help="of every finish")
    parser.add_argument("--windows", type=int, default=8, help="of the validation text")
    arguments = parser.parse_args()
    kept = arguments.run / "finishing.json"
    done: dict[str, dict[str, float]] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    run = open_run(arguments.run)
    points = [best_at(run, ratio) for ratio in RATIOS]
    prepared = reopen(with_reconstruction(run, samples=arguments.tokens // run.problem.data.window), on_event=ignore)
    windows = validation_windows(arguments.data, prepared.dense, arguments.windows)
    dense = model_perplexity(prepared.dense.model, windows)

    def keep(name: str, perplexities: Iterable[float]) -> None:
        done[name] = dict(zip(map(str, RATIOS), perplexities, strict=True))
        kept.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        print(name, {key: round(value, 2) for key, value in done[name].items()}, file=sys.stderr, flush=True)

    for variant, options in VARIANTS.items():
        name = f"{variant}, {arguments.tokens:,} tokens"
        if name in done:
            continue
        changed = override_problem(prepared.problem, {f"reconstruction.{key}": value for key, value in options.items()})
        finished = Finisher(replace(prepared, problem=changed), memory_gb=8).finish(points)
        models = (
            build_subnet(prepared.dense, point.genome, edit=found.edit)
            for point, found in zip(points, finished, strict=True)
        )
        keep(name, [model_perplexity(model, windows) for model in models])
    exports = {ratio: arguments.run / "exports" / f"r{round(100 * ratio)}" for ratio in RATIOS}
    exported = f"{SEQUENTIAL}, {run.problem.reconstruction.tokens:,} tokens"
    if exported not in done and all(path.exists() for path in exports.values()):
        models = (load(path)[0] for path in exports.values())
        keep(exported, [model_perplexity(model, windows) for model in models])
    rows = [{"finish": name, **{str(ratio): row[str(ratio)] for ratio in RATIOS}} for name, row in done.items()]
    sequential, closed = (done[f"{name}, {arguments.tokens:,} tokens"] for name in (SEQUENTIAL, "closed form"))
    write_result(
        "finishing",
        about=(
            f"SmolLM2-135M-Instruct: the five subnets of `NAME=front`, finished in several ways on WikiText-2 train and "
            f"measured on WikiText-2 valid (first {arguments.windows} windows of 1,024 tokens, float32, dense {dense:.2f})."
            " Rows of more tokens are from the same command with `--tokens`, or the exports of `NAME=front`."
        ),
        headline={
            f"of_closed_form_r{round(100 * ratio)}": sequential[str(ratio)] / closed[str(ratio)] for ratio in RATIOS
        },
        rows=rows,
    )


if __name__ == "__main__":
    main()
