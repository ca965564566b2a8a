"""What the points of a front look like inside: kept shares of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nas_llm.report._figures import _styled

if TYPE_CHECKING:
    from nas_llm.front import Front, FrontPoint
    from nas_llm.space import FloatArray

# Nothing kept stands out from little kept: a removed sublayer is another thing than a narrow one.
_SCALE = [[0.0, "#2b2b2b"], [0.0001, "#f7fbff"], [0.5, "#6baed6"], [1.0, "#08306b"]]
_DIGITS = 3


def architecture_figure(front: Front) -> go.Figure:
    """A heat map of the kept share of every layer's attention and FFN channels; dark = the sublayer is removed.

    Masks inside heads have a panel for each kind of unit.

    Args:
        front: The front; its points are the columns, the most expensive first.
    """
    points = sorted(front.points, key=lambda point: -point.objectives[front.price])
    names = [f"{point.id} ({front.record(front.price).show(point.objectives[front.price])})" for point in points]
    dense = front.dense.genome
    panels = _attention(points) | {"FFN": [point.genome.ffn_channels / dense.ffn_channels for point in points]}
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.03
    )
    for column, (name, shares) in enumerate(panels.items(), 1):
        figure.add_trace(
            go.Heatmap(
                z=_rows(shares),
                x=names,
                zmin=0.0,
                zmax=1.0,
                colorscale=_SCALE,
                colorbar={"title": "kept"},
                showscale=column == 1,
                name=name,
                hovertemplate="%{x}<br>layer %{y}: %{z}<extra>" + name + "</extra>",
            ),
            row=1,
            col=column,
        )
    _styled(figure)
    figure.update_layout(margin={"l": 50, "r": 20, "t": 40, "b": 110}, showlegend=False)
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(title="layer", col=1)
    return figure


def _attention(points: Sequence[FrontPoint]) -> dict[str, list[FloatArray]]:
    """Kept shares of attention by kind of unit: ``L`` numbers for each point."""
    layout = points[0].genome.layout if points else None
    if layout is None or not layout.axes:
        return {"attention": [point.genome.kv_groups / point.genome.layout.num_kv_heads for point in points]}
    titles = {"head": "channels of heads", "qk": "q and k", "vo": "v and o"}
    return {
        titles[axis.name]: [
            point.genome.kv_groups * point.genome.head_widths[place] / (layout.num_kv_heads * layout.head_dim)
            for point in points
        ]
        for place, axis in enumerate(layout.axes)
    }


def _rows(shares: list[FloatArray]) -> list[list[float]]:
    """One row a layer, one column a point, with as many digits as are of use."""
    if not shares:
        return []
    return [[round(float(share[layer]), _DIGITS) for share in shares] for layer in range(len(shares[0]))]
