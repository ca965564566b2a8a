"""Post-training: the same wall time spent on more search, or on training what a shorter search found.

``make bench NAME=posttrain DATA=folder``; DATA is a folder with ``text/``. Pieces are kept in ``runs/bench-posttrain``:
``--only start``, ``more``, ``lora`` or ``full`` does one of them (what it builds on first), and run again it goes on
where it stopped; a piece that was cut off inside its timed part is timed anew. Only the last step, without ``--only``,
reads the test text.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._result import write_result
from benchmarks._timed_search import timed_search
from benchmarks.front import PROBLEM
from benchmarks.front import overrides as front_overrides
from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ModelError
from nas_llm.events import Event, Notice, StageFinished
from nas_llm.posttrain import CURVE_FILE, PosttrainSettings
from nas_llm.search import Evaluation, History
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import (
    FrontPoint,
    PosttrainTexts,
    evaluate_models,
    export_points,
    open_run,
    posttrain_export,
    run_search,
)

RATES = {"lora": (3e-4, 1e-3, 3e-3), "full": (3e-5, 1e-4, 3e-4)}
_ENDLESS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is measured, and where it is kept.

    Attributes:
        data: Folder with ``text/``.
        folder: Where the pieces lie.
        problem: A packaged problem.
        ratio: Most inheriting ratio.
        seconds: T, of more search or of training.
        tune_seconds: Training time at each learning rate that is tried.
        evaluations: Of the shared start.
        tokens: Of the reconstruction that finishes a subnet.
        windows: Of the validation text.
        window: Tokens of one window, of both measured texts.
        marks: Points of a curve.
        seed: Of everything.
    """

    data: Path
    folder: Path
    problem: str
    ratio: float
    seconds: float
    tune_seconds: float
    evaluations: int
    tokens: int
    windows: int
    window: int
    marks: int
    seed: int

    def text(self, name: str) -> Path:
        """A text file."""
        return self.data / "text" / f"{name}.raw"

    def load(self, evaluations: int) -> LoadedProblem:
        """The problem with so many evaluations; the front's settings, brought to one ratio."""
        settings = front_overrides(self.data, seed=self.seed, evaluations=evaluations, tokens=self.tokens)
        settings += ['objectives=["kl", "block_params"]', 'reconstruction.method="sequential"']
        settings.append(f"search.target_ratios=[{self.ratio}]")
        settings.append(f"search.population={min(40, self.evaluations)}")
        return load_problem(self.problem, overrides=settings)


def show(event: Event) -> None:
    """What happened, for whoever waits."""
    if isinstance(event, StageFinished | Notice):
        print(event, file=sys.stderr, flush=True)


def start(setup: Setup) -> Path:
    """The shared start: a short search, and its best subnet at the ratio, exported."""
    run_dir = setup.folder / "start"
    if not (run_dir / "front.json").is_file():
        resume = (run_dir / "problem.toml").is_file()
        run_search(setup.load(setup.evaluations), run_dir=run_dir, resume=resume, on_event=show, shared_cache=False)
    rows = evaluations(run_dir)
    return export(setup, [point("start", best(rows, setup.ratio))])[0]


def more(setup: Setup) -> list[dict[str, Any]]:
    """The same search, continued for T seconds; at each mark the best subnet so far, exported and measured."""
    found, run_dir, log = setup.folder / "more.json", setup.folder / "more", setup.folder / "more.jsonl"
    if found.is_file():
        rows: list[dict[str, Any]] = json.loads(found.read_text(encoding="utf-8"))
        return rows
    start(setup)
    if not log.is_file():
        shutil.rmtree(run_dir, ignore_errors=True)
        shutil.copytree(
            setup.folder / "start", run_dir, ignore=shutil.ignore_patterns("front.json", "report.html", "exports")
        )
        times = timed_search(setup.load(_ENDLESS), run_dir, seconds=setup.seconds, resume=True, on_event=show)
        partial = log.with_suffix(".partial")
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in times), encoding="utf-8")
        partial.replace(log)
    times = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    begun, history = evaluations(setup.folder / "start"), evaluations(run_dir)
    known = {row.ordinal for row in begun}
    marks = [setup.seconds * mark / setup.marks for mark in range(1, setup.marks + 1)]
    points = [point("start", best(begun, setup.ratio))]
    for number, mark in enumerate(marks, start=1):
        priced = known | {ordinal for seconds, ordinal in times if seconds <= mark}
        row = best([row for row in history if row.ordinal in priced], setup.ratio)
        # A subnet that stays the best is exported once.
        same = [old for old in points if old.digest == row.digest]
        points.append(same[0] if same else point(f"m{number}", row))
    paths = export(setup, points)
    rows = [
        {"arm": "more search", "seconds": seconds, "valid": value}
        for seconds, value in zip([0.0, *marks], valid(setup, paths), strict=True)
    ]
    rows[-1]["path"] = str(paths[-1])
    rows[-1]["evaluations"] = len(times)
    found.write_text(json.dumps(rows), encoding="utf-8")
    return rows


def evaluations(run_dir: Path) -> list[Evaluation]:
    """All that a run has priced."""
    with History(run_dir / "history.sqlite", read_only=True) as history:
        return list(history.rows())


def best(rows: Sequence[Evaluation], ratio: float) -> Evaluation:
    """The lowest fitness among evaluations that are no larger than a ratio."""
    return min((row for row in rows if row.cost.inheriting_ratio <= ratio), key=lambda row: row.objectives["kl"])


def export(setup: Setup, points: Sequence[FrontPoint]) -> list[Path]:
    """Subnets finished and exported, all in the same way: that of the start's run."""
    run, out = open_run(setup.folder / "start"), setup.folder / "exports"
    records = export_points(run, list({each.digest: each for each in points}.values()), out=out, on_event=show)
    paths = {record.point.digest: record.path for record in records}
    return [paths[each.digest] for each in points]


def point(name: str, row: Evaluation) -> FrontPoint:
    """An evaluation as a point that can be exported."""
    return FrontPoint(
        id=name,
        genome=row.genome,
        objectives=dict(row.objectives),
        cost=row.cost,
        fitness_perplexity=None,
        held_out_perplexity=None,
        generation=row.generation,
    )


def train(setup: Setup, method: str) -> list[dict[str, Any]]:
    """The start's export trained for T seconds, at the learning rate that did best in shorter trials."""
    first = start(setup)
    trials = {}
    for rate in RATES[method]:
        output = setup.folder / "tuning" / f"{method}-{rate:g}"
        try:
            trials[rate] = curve(posttrain(setup, first, method, rate, setup.tune_seconds, output))[-1]["perplexity"]
        except ModelError as error:
            # It diverged: a rate that is too large.
            print(error, file=sys.stderr)
            trials[rate] = math.inf
        print(json.dumps({"method": method, "rate": rate, "valid": trials[rate]}), flush=True)
    rate = min(trials, key=lambda each: trials[each])
    path = posttrain(setup, first, method, rate, setup.seconds, setup.folder / "trained" / method)
    rows = [
        {"arm": method, "seconds": row["seconds"], "valid": row["perplexity"]}
        for row in curve(path)
        if row["perplexity"] is not None
    ]
    rows[-1] |= {"path": str(path), "rate": rate, "tokens": curve(path)[-1]["tokens"]}
    return rows


def posttrain(setup: Setup, first: Path, method: str, rate: float, seconds: float, output: Path) -> Path:
    """One training, towards the dense model's predictions, unless it is there already."""
    if not output.is_dir():
        posttrain_export(
            first,
            PosttrainTexts(
                text=str(setup.text("wikitext2_train_head")),
                window=min(512, setup.window),
                held_out=setup.text("wikitext2_valid"),
                held_out_window=setup.window,
                held_out_windows=setup.windows,
            ),
            PosttrainSettings(method=method, learning_rate=rate, seconds=seconds, seed=setup.seed, points=setup.marks),
            output=output,
            distill=True,
            on_event=show,
        )
    return output


def curve(path: Path) -> list[dict[str, Any]]:
    """The learning curve of an export."""
    return [json.loads(line) for line in (path / CURVE_FILE).read_text(encoding="utf-8").splitlines()]


def valid(setup: Setup, paths: Sequence[Path]) -> list[float]:
    """Validation perplexity of exports, each measured once."""
    names = [str(path) for path in paths]
    rows = evaluate_models(
        list(dict.fromkeys(names)), text=setup.text("wikitext2_valid"), window=setup.window, windows=setup.windows
    )
    found = {row.name: row.texts[0].perplexity for row in rows}
    return [found[name] for name in names]


def final(setup: Setup, *, write: bool) -> None:
    """All arms on the test text, and the result."""
    arms = [more(setup), train(setup, "lora"), train(setup, "full")]
    source, first = load_problem(setup.problem).problem.model.source, start(setup)
    named = [source, str(first), *(rows[-1]["path"] for rows in arms)]
    measured = evaluate_models(
        list(dict.fromkeys(named)),
        text=setup.text("wikitext2_test_peers"),
        window=setup.window,
        windows=16,
        base=source,
    )
    found = {row.name: row for row in measured}
    rows = [
        {
            "arm": row["arm"],
            "seconds": row["seconds"],
            "valid_perplexity": row["valid"],
            "test_perplexity": found[row["path"]].perplexity if "path" in row else None,
            "inheriting_ratio": found[row["path"]].inheriting_ratio if "path" in row else None,
            "learning_rate": row.get("rate"),
            "tokens": row.get("tokens"),
        }
        for arm in arms
        for row in arm
    ]
    headline = {
        "perplexity_dense": found[source].texts[0].perplexity,
        "perplexity_start": found[str(first)].texts[0].perplexity,
        **{
            f"perplexity_{name}": found[rows[-1]["path"]].texts[0].perplexity
            for name, rows in zip(("more_search", "lora", "full"), arms, strict=True)
        },
    }
    print(json.dumps({"headline": headline, "rows": rows}, indent=1))
    if not write:
        return
    write_result(
        "posttrain",
        about=(
            f"SmolLM2-135M-Instruct at an inheriting ratio of at most {setup.ratio:g}, seed {setup.seed}: a search of "
            f"{setup.evaluations} evaluations is the shared start; then {setup.seconds:g} s of wall time go either into "
            f"the same search continued ({arms[0][-1]['evaluations']} more evaluations), or into "
            "training the start's best subnet towards the dense model's predictions (KL), by LoRA or in all weights. "
            "Subnets are finished by the sequential reconstruction on "
            f"{setup.tokens:,} tokens. All text but that of measurements is WikiText-2 train (first articles). `seconds` "
            "counts neither loading, measuring and reconstruction, nor the choice of the learning rate (on validation "
            f"text, {setup.tune_seconds:g} s a rate). `valid_perplexity`: {setup.windows} windows of {setup.window} "
            "tokens of WikiText-2 validation; `test_perplexity`: the first 16 windows of WikiText-2 test, float32, of the "
            "last point of each arm. How to read it: [search against post-training](search-vs-post-training.md)."
        ),
        headline=headline,
        rows=rows,
    )


def main() -> None:
    """Do one piece, or all of them and the last step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=0.7)
    parser.add_argument("--seconds", type=float, default=900.0, help="T: of more search, or of training")
    parser.add_argument("--tune-seconds", type=float, default=300.0, help="at each learning rate that is tried")
    parser.add_argument("--evaluations", type=int, default=80, help="of the shared start")
    parser.add_argument("--tokens", type=int, default=65536, help="of the reconstruction")
    parser.add_argument("--windows", type=int, default=16, help="of the validation text")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--marks", type=int, default=6, help="points of a curve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", choices=("start", "more", "lora", "full"), help="do this piece, without the test text"
    )
    parser.add_argument("--problem", default=PROBLEM, help="another one is a try")
    parser.add_argument(
        "--run", type=Path, help="a try: nothing is written but this folder; default runs/bench-posttrain"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    setup = Setup(
        folder=arguments.run or Path("runs/bench-posttrain"),
        data=arguments.data.resolve(),
        **{
            name: getattr(arguments, name)
            for name in ("problem ratio seconds tune_seconds evaluations tokens windows window marks seed".split())
        },
    )
    check_settings(setup)
    if arguments.only == "start":
        print(start(setup))
    elif arguments.only == "more":
        print(json.dumps(more(setup), indent=1))
    elif arguments.only:
        print(json.dumps(train(setup, arguments.only), indent=1))
    else:
        final(setup, write=arguments.run is None and arguments.problem == PROBLEM)


def check_settings(setup: Setup) -> None:
    """Refuse to mix pieces that were made under other settings."""
    now = {key: str(value) for key, value in vars(setup).items() if key != "folder"}
    path = setup.folder / "settings.json"
    if not path.is_file():
        setup.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(now, indent=1), encoding="utf-8")
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [f"{key} {before.get(key)}, now {value}" for key, value in now.items() if before.get(key) != value]
    if changed:
        sys.exit(f"{setup.folder} was made with {'; '.join(changed)}: name another folder with --run")


if __name__ == "__main__":
    main()
