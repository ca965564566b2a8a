"""The report: one HTML file that opens offline."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from nas_llm import display
from nas_llm.files import write_atomic
from nas_llm.front import texts_table
from nas_llm.report._figures import convergence_figure, front_figure
from nas_llm.report._history_row import HistoryRow
from nas_llm.report._page import PAGE

if TYPE_CHECKING:
    from nas_llm.front import Front, FrontPoint
    from nas_llm.space import Objective


def write_report(path: Path, front: Front, history_rows: Sequence[HistoryRow]) -> None:
    """Write a self-contained report of a search; an earlier one is replaced.

    Args:
        path: The HTML file; its folder is taken for the run directory in the commands that it shows.
        front: The front.
        history_rows: Every evaluated genome.

    Raises:
        RunError: If the file cannot be written.
    """
    fields = {
        "title": escape(front.problem),
        "summary": _summary(front, len(history_rows)),
        "front_figure": "\n".join(
            _figure(
                front_figure(front, history_rows, price=price),
                f"front{'' if price == front.price else f'-{price}'}",
                520,
            )
            for price in front.prices
        ),
        "convergence_figure": _figure(convergence_figure(front, history_rows), "convergence", 320),
        "facts": _facts(front),
        "texts": _texts(front),
        "cost_columns": "".join(f'<th scope="col">{_head(record)}</th>' for record in front.optional_costs),
        "points": _points(front),
        "believed": _believed(front),
        "commands": escape(_commands(path.parent, front)),
        "plotly": get_plotlyjs(),
    }
    page = PAGE
    # Not str.format, because the page holds CSS and JavaScript; plotly's source comes last, so it is never searched.
    for name, text in fields.items():
        page = page.replace(f"<!--{name}-->", text)
    write_atomic(path, page)


def _figure(figure: go.Figure, name: str, height: int) -> str:
    # Named buttons only: among the default ones are some that talk to a server.
    buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]]
    config = {"displaylogo": False, "responsive": True, "modeBarButtons": buttons}
    figure.update_layout(height=height)
    return str(figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"figure-{name}", config=config))


def _fronts(front: Front, history_rows: Sequence[HistoryRow]) -> str:
    """Quality against each cost objective."""
    names = {price: "front" if price == front.price else f"front-{price}" for price in front.prices}
    figures = {price: front_figure(front, history_rows, price=price) for price in names}
    return "\n".join(_figure(figures[price], name, 520) for price, name in names.items())


def _summary(front: Front, evaluations: int) -> str:
    text = display.text_of(front.data.get("fitness", {})) or "unknown text"
    ratios = [point.cost.inheriting_ratio for point in front.points]
    spread = f", inheriting ratios {min(ratios):.3f} to {max(ratios):.3f}" if ratios else ""
    return (
        f"{len(front.points)} points{spread}, from {evaluations} evaluated subnets. "
        f"Optimised for: <strong>{escape(text)}</strong>. Other text may order the points differently."
    )


def _facts(front: Front) -> str:
    model = " at ".join(str(front.model[key]) for key in ("source", "revision") if front.model.get(key))
    facts = {
        "Problem": front.problem,
        "Dense model": model,
        "Seed": str(front.seed),
        "Objectives": ", ".join(front.objectives),
        "Candidates evaluated with": f"{front.weights} weights",
        "Hypervolume": f"{front.hypervolume:.4f}",
    }
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())


def _texts(front: Front) -> str:
    uses = {
        "calibration": "scores and reconstruction",
        "fitness": "the search",
        "held_out": "re-scoring only",
        "off_text": "re-scoring only, another kind of text",
        "questions": "the search",
    }
    rows = []
    for name, windows in front.data.items():
        digest = str(windows.get("digest", ""))
        cells = (name.replace("_", "-"), uses.get(name, ""), display.text_of(windows), digest[:16])
        rows.append(_row(cells))
    return "".join(rows)


def _points(front: Front) -> str:
    rows = []
    for point in (front.dense, *front.points):
        kept = [sum(layer[unit] > 0 for layer in point.layers) for unit in ("kv_groups", "ffn_channels")]
        cells = (
            f"{point.id} (knee)" if point.knee else point.id,
            f"{point.cost.inheriting_ratio:.4f}",
            display.count(point.cost.macs_per_token),
            display.count(point.cost.params),
            display.count(point.cost.kv_cache_bytes),
            *(record.show(point.cost.value(record.name)) for record in front.optional_costs),
            front.record(front.quality).show(point.objectives[front.quality]),
            display.perplexity(point.held_out_perplexity),
            _times_dense(point, front.dense),
            *(f"{number}/{len(point.layers)}" for number in kept),
        )
        rows.append(_row(cells, "dense" if point is front.dense else "knee" if point.knee else ""))
    return "".join(rows)


def _believed(front: Front) -> str:
    """Times dense by kind of text, and the best uniform model beside each point; nothing if it is not known."""
    heads, rows = texts_table(front, front.points)
    if not rows:
        return ""
    columns = "".join(f'<th scope="col">{escape(head[:1].upper() + head[1:])}</th>' for head in heads)
    warnings = "".join(f"<li>{escape(warning[:1].upper() + warning[1:])}</li>" for warning in front.warnings)
    return (
        '<h2 id="believed">Times dense on each kind of text</h2>\n'
        '<p class="note">Uniform: the best model of the same size that keeps the same share of every layer. Worth: how '
        "much less perplexity the point has, on held-out text and on the kind of text where that is least.</p>\n"
        + (f"<ul>{warnings}</ul>\n" if warnings else "")
        + f'<div class="scroll"><table><thead><tr><th scope="col">Point</th>{columns}</tr></thead>\n<tbody>\n'
        + "".join(_row(row) for row in rows)
        + "</tbody></table></div>\n"
    )


def _head(record: Objective) -> str:
    return escape(record.title[:1].upper() + record.title[1:])


def _times_dense(point: FrontPoint, dense: FrontPoint) -> str:
    if point.held_out_perplexity is None or dense.held_out_perplexity is None:
        return "-"
    return f"{point.held_out_perplexity / dense.held_out_perplexity:.3f}"


def _row(cells: Sequence[str], kind: str = "") -> str:
    first, *others = (escape(cell) for cell in cells)
    css = f' class="{kind}"' if kind else ""
    return f'<tr{css}><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>\n'


def _commands(run_dir: Path, front: Front) -> str:
    run = shlex.quote(str(run_dir))
    last = front.points[-1].id if front.points else "p01"
    return "\n".join(
        (
            f"nas-llm front {run} --csv front.csv",
            f"nas-llm export {run} --point knee",
            f"nas-llm export {run} --point {last} --out models",
        )
    )
