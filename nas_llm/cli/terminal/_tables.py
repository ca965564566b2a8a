"""Tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from nas_llm import display
from nas_llm.space import workload_objective

if TYPE_CHECKING:
    from nas_llm.evaluation import ModelRow
    from nas_llm.export import FamilyAbilities, Servability
    from nas_llm.front import Front, FrontPoint
    from nas_llm.studies import StudySummary
    from nas_llm.workflow import ReconstructionRecord
    from nas_llm.workflow.export import ExportRecord
    from nas_llm.workloads import WorkloadPredictor

# Of a table whose rows are models; with more, models are the columns.
_MOST_COLUMNS = 8


def front_table(front: Front, points: Sequence[FrontPoint], predictor: WorkloadPredictor | None = None) -> Table:
    """The dense model and some points, with what the numbers were measured on.

    Args:
        front: The front.
        points: The points.
        predictor: Of a workload whose seconds and memory are shown, too.
    """
    costs_shown, measured = front.optional_costs, front.record(front.quality)
    if predictor is not None:
        # What other workloads take is not what was asked.
        costs_shown = tuple(record for record in costs_shown if workload_objective(record.name) is None)
    # Perplexities have columns of their own.
    seen = () if measured.reported else (measured,)
    # Escaped, as titles and units of others may hold square brackets, which are markup here.
    heads = [escape(record.head) for record in (*costs_shown, *seen)]
    predicted = () if predictor is None else predictor.names
    heads += predicted
    table = plain_table("point", "ratio", "MACs/token", "params", "KV bytes/token", *heads)
    for name in ("fitness ppl", "held-out ppl", "attention", "FFN"):
        table.add_column(name, justify="right")
    table.add_column("", justify="left")
    for point in (front.dense, *points):
        attention = sum(layer["kv_groups"] > 0 for layer in point.layers)
        ffn = sum(layer["ffn_channels"] > 0 for layer in point.layers)
        table.add_row(
            point.id,
            *costs(point),
            display.count(point.cost.kv_cache_bytes),
            *(escape(record.show(point.cost.value(record.name))) for record in costs_shown),
            *(escape(record.show(point.objectives[record.name])) for record in seen),
            *(predictor.shown(name, point.genome, point.cost) for name in predicted if predictor is not None),
            display.perplexity(point.fitness_perplexity),
            display.perplexity(point.held_out_perplexity),
            f"{attention}/{len(point.layers)}",
            f"{ffn}/{len(point.layers)}",
            "knee" if point.knee else "",
            style="dim" if point is front.dense else "bold" if point.knee else "",
        )
    table.caption = measured_on(front) + ("" if predictor is None else f"\n{predictor}")
    return table


def belief_table(front: Front, points: Sequence[FrontPoint]) -> Table | None:
    """Times dense of some points on every kind of text, beside the best uniform model; None if it is not known."""
    from nas_llm.front import texts_table

    heads, rows = texts_table(front, points)
    if not rows:
        return None
    # Kinds of text have long names and points short ones.
    table = plain_table("times dense", *(row[0] for row in rows))
    for place, head in enumerate(heads, start=1):
        table.add_row(escape(head), *(row[place] for row in rows))
    table.caption = (
        "uniform: the best model of the same size that keeps the same share of every layer; worth: how much less "
        "perplexity the point has, on held-out text and on the kind where that is least"
    )
    return table


def export_table(front: Front, records: Sequence[ExportRecord]) -> Table:
    """The dense model and what was exported, as measured."""
    table = plain_table("point", "ratio", "MACs/token", "params", "fitness ppl", "held-out ppl", "format", "weights")
    table.add_column("directory", justify="left", overflow="fold")
    dense = front.dense
    scores = (display.perplexity(dense.fitness_perplexity), display.perplexity(dense.held_out_perplexity))
    table.add_row("dense", *costs(dense), *scores, "", "", "", style="dim")
    for record in records:
        scores = (display.perplexity(record.fitness_perplexity), display.perplexity(record.held_out_perplexity))
        name = f"{record.point.id} (knee)" if record.point.knee else record.point.id
        # "keep", the dense model's own type, says nothing here.
        kind = record.format if record.dtype == "keep" else f"{record.format}, {record.dtype}"
        written = (kind, display.size(record.size))
        table.add_row(name, *costs(record), *scores, *written, str(record.path))
    table.caption = "; ".join(filter(None, [measured_on(front), *_by_kind(front, records)]))
    return table


def _by_kind(front: Front, records: Sequence[ExportRecord]) -> list[str]:
    """Times dense on each kind of text, of each point in its first format."""
    said: dict[str, str] = {}
    for record in records:
        said.setdefault(record.point.id, times_dense(front, record.point, record.texts))
    return [text for text in said.values() if text]


def times_dense(front: Front, point: FrontPoint, texts: Mapping[str, float]) -> str:
    """Times dense on each kind of text, in a line; empty if it is not known.

    Args:
        front: The front.
        point: Which of its points.
        texts: Its perplexity by kind of text.
    """
    known = front.dense.texts
    times = [f"{kind} {value / known[kind]:.2f}" for kind, value in texts.items() if known.get(kind)]
    return f"{point.id} times dense: {', '.join(times)}" if times else ""


def model_table(rows: Sequence[ModelRow]) -> Table:
    """Measured models; numbers become rows where they are too many for columns."""
    from nas_llm.report import evaluation_columns

    columns = evaluation_columns(rows)
    if len(columns) <= _MOST_COLUMNS:
        table = plain_table("model", *(column.title for column in columns))
        for index, row in enumerate(rows):
            table.add_row(escape(row.name), *(escape(column.cells[index]) for column in columns))
    else:
        table = plain_table("")
        for row in rows:
            table.add_column(row.name, justify="right", overflow="fold")
        for column in columns:
            table.add_row(escape(column.title), *map(escape, column.cells))
    return table


def study_table(summary: StudySummary, *, most: int = 10) -> Table:
    """The baselines and the best trials of a study."""
    table = plain_table("trial", *summary.objectives, "state")
    table.add_column("settings", justify="left", overflow="fold")
    best = None if summary.best is None else summary.trials[summary.best]
    ranked = sorted(summary.trials, key=lambda trial: (trial.state != "complete", *(-v for v in trial.values[:1])))
    shown = [trial for place, trial in enumerate(ranked) if place < most or trial.label]
    for trial in shown:
        values = [f"{value:.4f}" for value in trial.values] or ["-"] * len(summary.objectives)
        settings = ", ".join(f"{key.rpartition('.')[2]} {_setting(value)}" for key, value in trial.settings.items())
        table.add_row(
            f"{trial.number} ({trial.label})" if trial.label else str(trial.number),
            *values,
            trial.state,
            f"the {trial.label} setting" if trial.label else settings,
            style="bold" if trial is best else "",
        )
    if len(shown) < len(summary.trials):
        table.caption = f"and {len(summary.trials) - len(shown)} more"
    return table


def servable_table(answers: Mapping[str, Servability]) -> Table:
    """Which genomes each format holds, what is in the way of others, and what would let them in."""
    table = _folding(("format", "genomes", "what is in the way", "what would widen it"))
    for name, answer in answers.items():
        hindrances = answer.hindrances
        if not hindrances:
            table.add_row(name, answer.genomes, "", "")
        for index, hindrance in enumerate(hindrances):
            first = (name, answer.genomes) if index == 0 else ("", "")
            weight = "" if hindrance.blocks else "(loads all the same) "
            mend = f"{hindrance.setting} = {hindrance.value}" if hindrance.setting else "-"
            table.add_row(*first, weight + hindrance.reason, mend)
    return table


def families_table(columns: Sequence[str], found: Sequence[FamilyAbilities]) -> Table:
    """What can be done with each model type.

    Args:
        columns: Heads of the columns.
        found: The rows.
    """
    table = _folding(columns)
    for abilities in found:
        table.add_row(*abilities.row)
    return table


def _folding(columns: Sequence[str]) -> Table:
    """An empty table whose cells break where they are too long."""
    table = Table(box=SIMPLE_HEAD, header_style="bold")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _setting(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def measured_on(front: Front) -> str:
    """Which text the numbers of a front belong to."""
    parts = [
        f"{label} {display.text_of(front.data[name])}"
        for label, name in (("optimised for:", "fitness"), ("held-out:", "held_out"))
        if name in front.data
    ]
    return "; ".join(parts)


def plain_table(first: str, *columns: str) -> Table:
    """An empty table: text in the first column, numbers in the others."""
    table = Table(box=SIMPLE_HEAD, caption_justify="left", caption_style="dim", header_style="bold")
    table.add_column(first, justify="left", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def costs(priced: FrontPoint | ExportRecord | ReconstructionRecord) -> tuple[str, str, str]:
    """Inheriting ratio, MACs per token and parameters."""
    cost = priced.cost
    return f"{cost.inheriting_ratio:.4f}", display.count(cost.macs_per_token), display.count(cost.params)
