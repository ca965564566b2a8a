"""From what a search found to the front that it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nas_llm.events import EventHandler, Notice, StageFinished, StageStarted, ignore
from nas_llm.front import Front, FrontPoint, UniformBaseline, knee, thin_front
from nas_llm.search import SearchResult, search_scale
from nas_llm.session._prepared import Prepared
from nas_llm.session.front._counter import Counter
from nas_llm.session.front._texts import TextScore, score_texts
from nas_llm.session.front._uniform import Uniform, best_uniform
from nas_llm.space import Evaluation, FloatArray, Genome, Objective, objective, workload_objective


def build_front(prepared: Prepared, result: SearchResult, *, on_event: EventHandler = ignore) -> Front:
    """Thin the front of a search and score its points on windows the search never saw.

    Beside the points the dense model is scored, and beside each of them the best uniform model of its ratio, with
    weights of the same kind.

    Args:
        prepared: The problem that was searched.
        result: What the search found.
        on_event: Called with every event.
    """
    problem, names = prepared.problem, prepared.problem.objective_names
    chosen = thin_front(_scaled(result.front, names, result.dense), problem.front.size)
    kept = [result.front[index] for index in chosen]
    thinned = f" of the front's {len(result.front)}" if len(kept) < len(result.front) else ""
    subject = f"the dense model, {len(kept)}{thinned} points and as many uniform models"
    # The cheapest last, as a person reads a front: from the dense end on.
    kept.sort(key=lambda evaluation: (-evaluation.cost.macs_per_token, -evaluation.cost.block_params))
    dense_genome = Genome.dense(prepared.dense.architecture, prepared.space.layout)
    genomes = [dense_genome, *(evaluation.genome for evaluation in kept)]
    uniform = best_uniform(prepared, [evaluation.cost.inheriting_ratio for evaluation in kept], on_event)
    everyone = list(dict.fromkeys([*genomes, *(found.genome for found in uniform if found is not None)]))
    texts = dict(zip(everyone, score_texts(prepared, everyone, subject, on_event), strict=True))
    fitness = (
        [result.dense[problem.quality], *(evaluation.objectives[problem.quality] for evaluation in kept)]
        if objective(problem.quality).reported
        else _fitness(prepared, genomes, subject, on_event)
    )
    middle = knee(_scaled(kept, names, result.dense))
    points = tuple(
        FrontPoint(
            id=f"p{index + 1:02d}",
            genome=evaluation.genome,
            objectives=dict(evaluation.objectives),
            cost=evaluation.cost,
            fitness_perplexity=fitness[index + 1],
            held_out_perplexity=texts[evaluation.genome].held_out,
            texts=texts[evaluation.genome].kinds,
            uniform=None if beside is None else _baseline(prepared, beside, texts[beside.genome]),
            generation=evaluation.generation,
            knee=index == middle,
        )
        for index, (evaluation, beside) in enumerate(zip(kept, uniform, strict=True))
    )
    splits = prepared.splits
    texts_seen = [*splits.measured, *filter(None, [splits.off_text])]
    front = Front(
        problem=problem.name,
        seed=problem.seed,
        model={"source": prepared.dense.source, "revision": prepared.dense.revision},
        data={text.name: text.describe() for text in texts_seen},
        objectives=names,
        weights=problem.fitness.weights,
        hypervolume=result.hypervolume,
        dense=FrontPoint(
            id="dense",
            genome=dense_genome,
            objectives=dict(result.dense),
            cost=prepared.cost_model.dense,
            fitness_perplexity=fitness[0],
            held_out_perplexity=texts[dense_genome].held_out,
            texts=texts[dense_genome].kinds,
            generation=0,
        ),
        points=points,
        labels={
            name: _label(objective(name))
            for name in prepared.cost_model.dense.further
            if workload_objective(name) is None
        },
    )
    for warning in front.warnings:
        on_event(Notice(warning))
    return front


def _baseline(prepared: Prepared, found: Uniform, scores: TextScore) -> UniformBaseline:
    return UniformBaseline(
        allocation=found.allocation,
        inheriting_ratio=prepared.cost_model(found.genome).inheriting_ratio,
        quality=found.quality,
        held_out_perplexity=scores.held_out,
        texts=scores.kinds,
    )


def _label(record: Objective) -> dict[str, str]:
    return {"title": record.title, "unit": record.unit}


def _fitness(prepared: Prepared, genomes: Sequence[Genome], subject: str, on_event: EventHandler) -> list[float]:
    """Perplexity on the fitness text, of a search for something else."""
    windows = prepared.splits.fitness
    on_event(StageStarted("front", f"{subject} on {windows.num_tokens:,} fitness tokens", len(genomes)))
    values = prepared.evaluator(windows, metric="perplexity").evaluate(genomes, on_result=Counter("front", on_event))
    on_event(StageFinished("front", "fitness perplexity"))
    return values


def _scaled(evaluations: Sequence[Evaluation], names: Sequence[str], dense: Mapping[str, float]) -> FloatArray:
    """Objectives as the search saw them: perplexity on a log scale, so that distances mean the same at both ends."""
    return np.stack([search_scale(evaluation.objectives, names, dense) for evaluation in evaluations])
