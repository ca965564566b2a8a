"""The best uniform model of each ratio, by what the search goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_llm.events import EventHandler, StageFinished, StageStarted
from nas_llm.search.operators import build_repair, uniform_genomes
from nas_llm.session._prepared import Prepared
from nas_llm.session.front._counter import Counter
from nas_llm.space import Genome


@dataclass(frozen=True)
class Uniform:
    """A uniform model.

    Attributes:
        allocation: ``FFN first`` or ``everything``.
        genome: Its masks.
        quality: What the search would have seen of it.
    """

    allocation: str
    genome: Genome
    quality: float


def best_uniform(prepared: Prepared, ratios: Sequence[float], on_event: EventHandler) -> list[Uniform | None]:
    """The better of the uniform allocations at each ratio, on the fitness text.

    Args:
        prepared: The problem.
        ratios: Inheriting ratios.
        on_event: Called with every event.

    Returns:
        One a ratio; None where the space has no uniform genome at or below it.
    """
    problem, scores = prepared.problem, prepared.calibration.scores
    repair = build_repair(prepared.space, scores, prepared.cost_model, problem.constraints)
    wanted = [uniform_genomes(repair, ratio) for ratio in ratios]
    genomes = list(dict.fromkeys(genome for found in wanted for genome in found.values()))
    on_event(StageStarted("uniform", f"{len(genomes)} uniform models on the fitness text", len(genomes)))
    evaluator = prepared.evaluator(prepared.splits.fitness, metric=problem.quality)
    found_values = evaluator.evaluate(genomes, on_result=Counter("uniform", on_event)) if genomes else ()
    values = dict(zip(genomes, found_values, strict=True))
    on_event(StageFinished("uniform"))
    return [
        min((Uniform(name, genome, values[genome]) for name, genome in found.items()), key=_quality, default=None)
        for found in wanted
    ]


def _quality(found: Uniform) -> float:
    return found.quality
