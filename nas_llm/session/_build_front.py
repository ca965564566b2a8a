"""From what a search found to the front that it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted, ignore
from nas_llm.front import Front, FrontPoint, knee, thin_front
from nas_llm.search import SearchResult, search_scale
from nas_llm.session._prepared import Prepared
from nas_llm.space import Evaluation, FloatArray, Genome, Objective, objective


def build_front(prepared: Prepared, result: SearchResult, *, on_event: EventHandler = ignore) -> Front:
    """Thin the front of a search and score its points, and the dense model, on windows the search never saw.

    Args:
        prepared: The problem that was searched.
        result: What the search found.
        on_event: Called with every event.
    """
    problem, names = prepared.problem, prepared.problem.objective_names
    chosen = thin_front(_scaled(result.front, names, result.dense), problem.front.size)
    kept = [result.front[index] for index in chosen]
    thinned = f" of the front's {len(result.front)}" if len(kept) < len(result.front) else ""
    subject = f"the dense model and {len(kept)}{thinned} points"
    # The cheapest last, as a person reads a front: from the dense end on.
    kept.sort(key=lambda evaluation: (-evaluation.cost.macs_per_token, -evaluation.cost.block_params))
    dense_genome = Genome.dense(prepared.dense.architecture, prepared.space.layout)
    genomes = [dense_genome, *(evaluation.genome for evaluation in kept)]
    held_out = _score(prepared, genomes, "held_out", subject, on_event)
    fitness = (
        [result.dense[problem.quality], *(evaluation.objectives[problem.quality] for evaluation in kept)]
        if objective(problem.quality).reported
        else _score(prepared, genomes, "fitness", subject, on_event)
    )
    middle = knee(_scaled(kept, names, result.dense))
    points = tuple(
        _point(f"p{index + 1:02d}", evaluation, fitness[index + 1], held_out[index + 1], index == middle)
        for index, evaluation in enumerate(kept)
    )
    splits = prepared.splits
    return Front(
        problem=problem.name,
        seed=problem.seed,
        model={"source": prepared.dense.source, "revision": prepared.dense.revision},
        data={text.name: text.describe() for text in splits.measured},
        objectives=names,
        weights=problem.fitness.weights,
        hypervolume=result.hypervolume,
        dense=FrontPoint(
            id="dense",
            genome=dense_genome,
            objectives=dict(result.dense),
            cost=prepared.cost_model.dense,
            fitness_perplexity=fitness[0],
            held_out_perplexity=held_out[0],
            generation=0,
        ),
        points=points,
        labels={name: _label(objective(name)) for name in prepared.cost_model.dense.further},
    )


def _label(record: Objective) -> dict[str, str]:
    return {"title": record.title, "unit": record.unit}


def _score(
    prepared: Prepared, genomes: Sequence[Genome], split: str, subject: str, on_event: EventHandler
) -> list[float]:
    windows = getattr(prepared.splits, split)
    label = split.replace("_", "-")
    on_event(StageStarted("front", f"{subject} on {windows.num_tokens:,} {label} tokens", len(genomes)))
    done = 0

    def on_result(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        nonlocal done
        done += 1
        on_event(StageAdvanced("front", done))

    values = prepared.evaluator(windows, metric="perplexity").evaluate(genomes, on_result=on_result)
    on_event(StageFinished("front", f"{label} perplexity"))
    return values


def _scaled(evaluations: Sequence[Evaluation], names: Sequence[str], dense: Mapping[str, float]) -> FloatArray:
    """Objectives as the search saw them: perplexity on a log scale, so that distances mean the same at both ends."""
    return np.stack([search_scale(evaluation.objectives, names, dense) for evaluation in evaluations])


def _point(point_id: str, evaluation: Evaluation, fitness: float, held_out: float, is_knee: bool) -> FrontPoint:
    objectives: Mapping[str, float] = evaluation.objectives
    return FrontPoint(
        id=point_id,
        genome=evaluation.genome,
        objectives=dict(objectives),
        cost=evaluation.cost,
        fitness_perplexity=fitness,
        held_out_perplexity=held_out,
        generation=evaluation.generation,
        knee=is_knee,
    )
