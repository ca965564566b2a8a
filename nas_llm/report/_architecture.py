"""What the points of a front look like inside: kept shares of every layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from nas_llm.report._figures import _styled

if TYPE_CHECKING:
    from nas_llm.front import Front
    from nas_llm.space import FloatArray

# Nothing kept stands out from little kept: a removed sublayer is another thing than a narrow one.
_SCALE = [[0.0, "#2b2b2b"], [0.0001, "#f7fbff"], [0.5, "#6baed6"], [1.0, "#08306b"]]
_DIGITS = 3


def architecture_figure(front: Front) -> go.Figure:
    """A heat map of the kept share of every layer's KV groups and FFN channels; dark = the sublayer is removed.

    Args:
        front: The front; its points are the columns, the most expensive first.
    """
    points = sorted(front.points, key=lambda point: -point.objectives[front.price])
    names = [f"{point.id} ({front.record(front.price).show(point.objectives[front.price])})" for point in points]
    dense = front.dense.genome
    panels = {
        "attention": [point.genome.kv_groups / dense.kv_groups for point in points],
        "FFN": [point.genome.ffn_channels / dense.ffn_channels for point in points],
    }
    figure = make_subplots(rows=1, cols=2, subplot_titles=list(panels), shared_yaxes=True, horizontal_spacing=0.03)
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
    figure.update_yaxes(title="layer", autorange="reversed", col=1)
    figure.update_yaxes(autorange="reversed", col=2)
    return figure


def _rows(shares: list[FloatArray]) -> list[list[float]]:
    """One row a layer, one column a point, with as many digits as are of use."""
    if not shares:
        return []
    return [[round(float(share[layer]), _DIGITS) for share in shares] for layer in range(len(shares[0]))]
