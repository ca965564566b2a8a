"""Plotly figures of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from nas_llm import display
from nas_llm.report._convergence import hypervolumes
from nas_llm.report._history_row import HistoryRow

if TYPE_CHECKING:
    from nas_llm.front import Front, FrontPoint
    from nas_llm.space import Cost

# After Okabe and Ito: told apart with every kind of colour vision, legible on white and on near-black.
_SEARCH, _HELD_OUT, _DENSE, _KNEE, _CLOUD = "#2E86C1", "#D55E00", "#009E73", "#CC79A7", "#8A8F98"


def front_figure(front: Front, rows: Sequence[HistoryRow], *, price: str | None = None) -> go.Figure:
    """The measured objective against a cost: all evaluated genomes, the front, its held-out scores.

    Args:
        front: The front; held-out scores are shown where quality is a perplexity. With three and more objectives,
            points may lie above others here that are worse in what is not shown.
        rows: Every evaluated genome.
        price: The cost, one of the objectives; default the first one.
    """
    quality, price = front.quality, price or front.price
    measured = front.record(quality)
    finite = [row for row in rows if math.isfinite(row.objectives[quality])]
    points = sorted(front.points, key=lambda point: point.objectives[price])
    figure = go.Figure()
    _scatter(
        figure,
        "evaluated",
        [(row.objectives[price], row.objectives[quality]) for row in finite],
        [f"evaluation {row.ordinal}, generation {row.generation}<br>{_ratio(row.cost)}" for row in finite],
        marker={"color": _CLOUD, "size": 6, "opacity": 0.55},
    )
    _scatter(
        figure,
        "front, as the search saw it",
        [(point.objectives[price], point.objectives[quality]) for point in points],
        [_hover(point) for point in points],
        # A line through points that differ in a third objective would zigzag.
        mode="lines+markers" if len(front.objectives) == 2 else "markers",
        marker={"color": _SEARCH, "size": 9},
        line={"width": 1.5, "dash": "dot"},
    )
    if measured.reported:
        scored = [(point, point.held_out_perplexity) for point in points if point.held_out_perplexity is not None]
        _scatter(
            figure,
            "front, on held-out text",
            [(point.objectives[price], value) for point, value in scored],
            [_hover(point) for point, _ in scored],
            marker={"color": _HELD_OUT, "size": 9, "symbol": "diamond"},
        )
    knees = [point for point in points if point.knee]
    _scatter(
        figure,
        "knee",
        [(point.objectives[price], point.objectives[quality]) for point in knees],
        [_hover(point) for point in knees],
        marker={"color": _KNEE, "size": 18, "symbol": "circle-open", "line": {"width": 3}},
    )
    _dense(figure, front, price)
    figure.update_xaxes(title=front.record(price).label)
    figure.update_yaxes(title=measured.label)
    if measured.scale == "log":
        steps = _log_steps([value for trace in figure.data for value in trace.y])
        figure.update_yaxes(type="log", tickvals=steps, ticktext=[f"{step:,.10g}" for step in steps])
    return _styled(figure)


def convergence_figure(front: Front, rows: Sequence[HistoryRow]) -> go.Figure:
    """The normalised hypervolume that each generation had reached.

    Args:
        front: Names the objectives and knows the dense model.
        rows: Every evaluated genome.
    """
    reached = hypervolumes(rows, front.objectives, front.dense.objectives)
    figure = go.Figure()
    _scatter(
        figure,
        "hypervolume",
        list(reached.items()),
        [f"generation {generation}" for generation in reached],
        mode="lines+markers",
        marker={"color": _SEARCH, "size": 7},
    )
    figure.update_xaxes(title="generation", dtick=1 if len(reached) <= 20 else None)
    figure.update_yaxes(title="normalised hypervolume")
    return _styled(figure)


def _log_steps(values: Sequence[float]) -> list[float]:
    """Where a logarithmic axis is labelled; plotly labels the steps between powers of ten with a bare digit."""
    low, high = min(values), max(values)
    if high > 3 * low:
        return [digit * 10.0**power for power in range(7) for digit in (1, 1.5, 2, 3, 5, 7)]
    # So short a piece of it is almost linear: about five round steps.
    rough = max(high - low, 1e-6 * high) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= rough), 10 * power)
    return [number * step for number in range(math.floor(low / step), math.ceil(high / step) + 1) if number > 0]


def _dense(figure: go.Figure, front: Front, price: str) -> None:
    dense = front.dense
    values = [dense.objectives[front.quality]]
    if front.record(front.quality).reported and dense.held_out_perplexity is not None:
        values.append(dense.held_out_perplexity)
    _scatter(
        figure,
        "dense model",
        [(dense.objectives[price], value) for value in values],
        [_hover(dense)] * len(values),
        marker={"color": [_DENSE, _HELD_OUT][: len(values)], "size": 14, "symbol": "star"},
    )


def _scatter(
    figure: go.Figure,
    name: str,
    points: Sequence[tuple[float, float]],
    hover: Sequence[str],
    *,
    mode: str = "markers",
    **style: Any,
) -> None:
    if not points:
        return
    x, y = zip(*points, strict=True)
    template = "%{text}<br>%{x:.4s}, %{y:.4g}<extra>" + name + "</extra>"
    figure.add_trace(
        go.Scatter(x=list(x), y=list(y), text=list(hover), mode=mode, name=name, hovertemplate=template, **style)
    )


def _hover(point: FrontPoint) -> str:
    held_out = display.perplexity(point.held_out_perplexity)
    return f"<b>{point.id}</b>, {_ratio(point.cost)}<br>held-out perplexity {held_out}"


def _ratio(cost: Cost) -> str:
    return f"inheriting ratio {cost.inheriting_ratio:.4f}"


def _styled(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
        hoverlabel={"align": "left"},
        modebar={"bgcolor": "rgba(0,0,0,0)"},
        showlegend=len(figure.data) > 1,
    )
    figure.update_xaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    figure.update_yaxes(gridcolor="rgba(128,128,128,0.25)", zeroline=False)
    return figure
