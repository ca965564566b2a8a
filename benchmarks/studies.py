"""Studies: the best setting of a study against the paper's and our default, on seeds that the study never saw.

``make bench NAME=studies`` runs the packaged study ``smollm2-135m``, or takes it as it is where it was run before;
``python -m benchmarks.studies --study tiny-llama`` is done in two minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from benchmarks._result import write_result
from nas_llm.events import Event, Notice, TrialFinished
from nas_llm.studies import (
    LoadedStudy,
    SearchMirror,
    StudySummary,
    Workbench,
    load_study,
    paper_settings,
    run_study,
    with_settings,
    write_best,
)
from nas_llm.studies._lockstep import LockstepSearches
from nas_llm.subnet import keep_freed_memory
from nas_llm.workflow import run_search

FRESH_SEEDS = (101, 102, 103)


def tune(loaded: LoadedStudy, storage: str, workers: int) -> StudySummary:
    """Run the study, or what is left of it."""

    def show(event: Event) -> None:
        if isinstance(event, TrialFinished | Notice):
            print(event, flush=True)

    return run_study(loaded, storage=storage, resume=True, workers=workers, on_event=show)


def compare(
    bench: Workbench, settings: Mapping[str, Mapping[str, Any]], seeds: tuple[int, ...]
) -> list[dict[str, Any]]:
    """Each setting on each seed, at equal evaluations; seed by seed, so that a broken-off run has whole pairs."""
    rows = []
    evaluations = bench.definition.evaluations
    for seed in seeds:
        for name, setting in settings.items():
            problem = with_settings(bench.problem, setting)
            with tempfile.TemporaryDirectory() as folder:
                searches = LockstepSearches(bench, problem, (seed,), Path(folder))
                searches.advance(evaluations)
                curve = {f"hv@{step}": searches.hypervolume(step) for step in bench.definition.steps[1::2]}
                found = {"hypervolume": searches.hypervolume(evaluations), **searches.counts()}
            rows.append({"seed": seed, "setting": name, **found, **curve})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def mirror_share(loaded: LoadedStudy) -> float:
    """Time that a mirrored search spends on its mirror, as a share of the whole; nothing comes from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        mirror = SearchMirror(loaded.problem, run_dir)
        began = time.perf_counter()
        summary = run_search(loaded.loaded, run_dir=run_dir, on_event=mirror, shared_cache=False)
        mirror.finish(summary)
        return mirror.seconds / (time.perf_counter() - began)


def main() -> None:
    """Tune, compare on fresh seeds, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with text/wikitext2_train_head.raw, in place of own text")
    parser.add_argument("--study", default="smollm2-135m")
    parser.add_argument("--storage", help="default runs/studies/<study>/study.journal")
    parser.add_argument("--trials", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(FRESH_SEEDS))
    parser.add_argument("--apply", type=Path, help="write the best setting as a problem definition")
    parser.add_argument("--dry", action="store_true", help="print the result, do not write it")
    arguments = parser.parse_args()
    keep_freed_memory()

    overrides = [] if arguments.trials is None else [f"trials={arguments.trials}"]
    if arguments.data:
        text = str((arguments.data / "text" / "wikitext2_train_head.raw").resolve())
        sources = [f'data.{split}.sources=[{{source="{text}"}}]' for split in ("calibration", "fitness", "held_out")]
        own = load_study(arguments.study).definition.set
        overrides += [f"set={json.dumps([*own, *sources])}", f"name={arguments.study}-wikitext2"]
    loaded = load_study(arguments.study, overrides=overrides)
    definition = loaded.definition
    assert not set(arguments.seeds) & set(definition.seeds), "fresh seeds are seeds that the study did not use"
    storage = arguments.storage or f"runs/studies/{definition.name}/study.journal"
    summary = tune(loaded, storage, arguments.workers)
    assert summary.best is not None
    best = summary.trials[summary.best]
    if arguments.apply:
        write_best(summary, loaded, arguments.apply)

    settings = {"best": dict(best.settings), "default": {}, "paper": paper_settings(definition.evaluations)}
    if best.label == "paper":
        settings["best"] = dict(settings["paper"])
    rows = compare(Workbench(loaded), settings, tuple(arguments.seeds))
    reached = {name: {row["seed"]: row["hypervolume"] for row in rows if row["setting"] == name} for name in settings}
    ratios = {
        f"{first}_vs_{second}": [reached[first][seed] / reached[second][seed] for seed in arguments.seeds]
        for first, second in (("best", "paper"), ("best", "default"), ("default", "paper"))
    }
    headline = {
        "hv_ratio_vs_paper": geometric_mean(ratios["best_vs_paper"]),
        "hv_ratio_vs_default": geometric_mean(ratios["best_vs_default"]),
        "default_hv_ratio_vs_paper": geometric_mean(ratios["default_vs_paper"]),
        "wins_vs_paper": sum(ratio > 1.0 for ratio in ratios["best_vs_paper"]) / len(arguments.seeds),
        "mirror_share": mirror_share(loaded),
    }
    states = {
        state: sum(trial.state == state for trial in summary.trials) for state in ("complete", "pruned", "failed")
    }
    spread = ", ".join(f"{key} {min(v):.3f}-{max(v):.3f} (median {median(v):.3f})" for key, v in ratios.items())
    about = (
        f"Study `{definition.name}`: {len(summary.trials)} trials ({json.dumps(states)}) of {definition.evaluations} "
        f"evaluations on each of the seeds {list(definition.seeds)}; the best one, trial {best.number} with "
        f"hypervolume {best.values[0]:.4f}, has `{json.dumps(dict(best.settings))}`. It, our default and the paper's "
        f"setting (`{json.dumps(settings['paper'])}`) were then run at equal evaluations on the seeds "
        f"{arguments.seeds}, which the study never saw. Hypervolumes are normalised, up to {definition.reference.quality:g} "
        f"times the dense perplexity and {definition.reference.cost:g} times the dense costs. The ratios are geometric "
        f"means over the seeds; spread: {spread}. `mirror_share` is the share of a mirrored search's time, without "
        "cached evaluations, that the mirror takes."
    )
    print(json.dumps(headline), about, sep="\n")
    if not arguments.dry:
        write_result("studies", about=about, headline=headline, rows=rows)


if __name__ == "__main__":
    main()
