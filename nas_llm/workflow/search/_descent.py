"""The descent before a search, kept step by step in the run directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas_llm.errors import Interrupted, RunError, SpaceError, first_line
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.files import write_atomic
from nas_llm.runs import DESCENT_FILE, checkpoint_folder
from nas_llm.search.descent import BudgetDescent, DescentStep
from nas_llm.search.engine import CachedEvaluator, EvaluationCache, Evaluator
from nas_llm.search.operators import GenomeRepair, ImportanceSampling, build_repair
from nas_llm.session import Prepared
from nas_llm.space import Genome, Marginals, UnitScores

# Ratios that are served where the problem names no targets.
_TARGETS = 5
_MARGINALS = ("mlp_less", "mlp_more")


def descend(
    prepared: Prepared,
    run_dir: Path,
    *,
    scores: UnitScores,
    evaluator: Evaluator,
    cache: EvaluationCache | None,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
) -> list[Genome]:
    """Genomes that a problem's descent found, the best of each target first; none if it asks for no descent.

    A descent that was cut off goes on after its last step, to the same end.

    Args:
        prepared: The problem.
        run_dir: Keeps the steps under ``checkpoint/``.
        scores: Importance of all units.
        evaluator: Evaluates proposals, as it evaluates candidates.
        cache: Takes what was evaluated, and knows what was evaluated before.
        on_event: Called with every event.
        should_stop: Polled between proposals.

    Raises:
        Interrupted: If ``should_stop`` said so.
        RunError: If the steps cannot be read or written.
    """
    problem = prepared.problem
    if not problem.search.descent.looks:
        return []
    repair = build_repair(
        prepared.space,
        scores,
        prepared.cost_model,
        problem.bounds,
        targets=problem.search.target_ratios,
    )
    cached = CachedEvaluator(evaluator, cache, should_stop=should_stop)
    priced = 0

    def price(genomes: Sequence[Genome]) -> Sequence[float]:
        nonlocal priced
        priced += len(genomes)
        return cached.evaluate(genomes)

    descent = BudgetDescent(
        repair,
        prepared.marginals(scores),
        price,
        targets=repair.targets or _spread_targets(repair),
        looks=problem.search.descent.looks,
    )
    path = checkpoint_folder(run_dir) / DESCENT_FILE
    steps = _read(path)

    def keep(step: DescentStep) -> None:
        steps.append(step)
        write_atomic(path, json.dumps([_encoded(step) for step in steps]) + "\n")
        on_event(StageAdvanced("descent", len(steps)))
        if should_stop():
            raise Interrupted

    on_event(StageStarted("descent", "marginals and evaluated exchanges, down the budget", descent.steps))
    walked = descent.run(steps.copy(), on_step=keep)
    found = ", ".join(f"{step.target:.2f}: {step.quality:.4g}" for step in _last(walked))
    on_event(StageFinished("descent", f"{problem.quality} at ratio {found}; {priced} candidates evaluated"))
    return _genomes(walked)


def _spread_targets(repair: GenomeRepair) -> list[float]:
    """Evenly spaced ratios of a problem that names none, from below the largest to the smallest."""
    extremes = ImportanceSampling(repair).extremes(np.random.default_rng(0))
    high, low = (repair.cost_model(genome).inheriting_ratio for genome in extremes)
    return [float(ratio) for ratio in np.linspace(high, low, _TARGETS + 1)[1:]]


def _last(walked: Sequence[DescentStep]) -> list[DescentStep]:
    return list({step.target: step for step in walked}.values())


def _genomes(walked: Sequence[DescentStep]) -> list[Genome]:
    """Distinct genomes: the last of every target, then those before them, and so on."""
    targets = list(dict.fromkeys(step.target for step in walked))
    columns = [
        list(dict.fromkeys(step.genome for step in reversed(walked) if step.target == target)) for target in targets
    ]
    depth = max(len(column) for column in columns)
    return [column[place] for place in range(depth) for column in columns if place < len(column)]


def _encoded(step: DescentStep) -> dict[str, object]:
    found = step.marginals
    marginals: dict[str, object] = {name: getattr(found, name).tolist() for name in _MARGINALS}
    if found.head_step:
        marginals["heads_more"] = [values.tolist() for values in found.heads_more]
        marginals["head_step"] = found.head_step
    return {
        **vars(step),
        "genome": step.genome.to_bytes().hex(),
        "marginals": {**marginals, "step": found.step},
    }


def _decoded(entry: dict[str, Any]) -> Marginals:
    less, more = (np.array(entry[name], dtype=np.float64) for name in _MARGINALS)
    return Marginals(
        mlp_less=less,
        mlp_more=more,
        step=entry["step"],
        heads_more=tuple(np.array(values, dtype=np.float64) for values in entry.get("heads_more", ())),
        head_step=entry.get("head_step", 0),
    )


def _read(path: Path) -> list[DescentStep]:
    if not path.is_file():
        return []
    try:
        return [
            DescentStep(
                **{
                    **entry,
                    "genome": Genome.from_bytes(bytes.fromhex(entry["genome"])),
                    "marginals": _decoded(entry["marginals"]),
                    "group_losses": tuple(entry["group_losses"]),
                }
            )
            for entry in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, TypeError, KeyError, SpaceError) as error:
        raise RunError(f"cannot read {path}: {first_line(error)}; start a new run") from error
