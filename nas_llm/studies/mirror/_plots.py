"""The figures of a search as plots of its study in the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_llm.config import Problem
from nas_llm.front import Front, FrontPoint, non_dominated
from nas_llm.report import architecture_figure, convergence_figure, front_figure
from nas_llm.space import COST_NAMES, Cost, Evaluation, Genome

if TYPE_CHECKING:
    from optuna import Study

# One more Pareto front for each further cost objective.
PLOTS = ("pareto-front", "hypervolume", "architectures")
# The dashboard sends every plot with every refresh: less than 200 kB each.
_MOST_POINTS = 900
_MOST_COLUMNS = 24


def save_plots(study: Study, front: Front, rows: Sequence[Evaluation]) -> None:
    """Put the Pareto front, the hypervolume curve and the architecture heat map into a study; earlier ones go.

    Without optuna-dashboard nothing is done: its storage format is its own.
    """
    try:
        from optuna_dashboard import save_plotly_graph_object
    except ImportError:
        return
    first, *others = (front_figure(front, _thinned(rows, _MOST_POINTS), price=price) for price in front.prices)
    plots = dict(zip(PLOTS, (first, convergence_figure(front, rows), architecture_figure(front)), strict=True))
    plots |= {f"{PLOTS[0]}-{price}": figure for price, figure in zip(front.prices[1:], others, strict=True)}
    for name, figure in plots.items():
        # Half a window wide there: above the plot, the legend would run into the title.
        legend = {"yanchor": "top", "y": -0.25}
        figure.update_layout(title=name.replace("-", " "), margin={"t": 60}, legend=legend)
        save_plotly_graph_object(study, figure, graph_object_id=name)


def live_front(problem: Problem, rows: Sequence[Evaluation], dense: Mapping[str, float], hypervolume: float) -> Front:
    """The front as it stands in the middle of a search: no held-out scores, no knee.

    Args:
        problem: The problem.
        rows: All evaluations so far, at least one.
        dense: Objectives of the dense model.
        hypervolume: What they reach.
    """
    names = problem.objective_names
    best = [rows[int(index)] for index in non_dominated([[row.objectives[name] for name in names] for row in rows])]
    best = _thinned(sorted(best, key=lambda row: -row.cost.macs_per_token), _MOST_COLUMNS)
    shape = best[0].genome
    whole = shape.with_masks(np.ones_like(shape.attn_mask), np.ones_like(shape.mlp_mask))
    # Of the dense model's costs only those that are objectives are known here, and the figures ask for no others.
    known = {name: dense[name] for name in problem.prices if name in dense}
    own: dict[str, Any] = {name: value for name, value in known.items() if name in COST_NAMES}
    further = {name: value for name, value in known.items() if name not in COST_NAMES}
    cost = replace(Cost(0, 0, 0, 0, 1.0), **own, further=further)
    points = tuple(_point(f"#{row.ordinal}", row.genome, row.objectives, row.cost, row.generation) for row in best)
    return Front(
        problem=problem.name,
        seed=problem.seed,
        model={"source": problem.model.source},
        data={},
        objectives=names,
        weights=problem.fitness.weights,
        hypervolume=hypervolume,
        dense=_point("dense", whole, dense, cost, 0),
        points=points,
    )


def _point(name: str, genome: Genome, objectives: Mapping[str, float], cost: Cost, generation: int) -> FrontPoint:
    return FrontPoint(
        id=name,
        genome=genome,
        objectives=dict(objectives),
        cost=cost,
        fitness_perplexity=None,
        held_out_perplexity=None,
        generation=generation,
    )


def _thinned(rows: Sequence[Evaluation], most: int) -> list[Evaluation]:
    """Evenly spread ones, the first and the last among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(index)] for index in np.linspace(0, len(rows) - 1, most).round()]
