"""Tables of what a reconstruction brought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from nas_llm import display
from nas_llm.cli.terminal._tables import costs, measured_on, plain_table, times_dense

if TYPE_CHECKING:
    from nas_llm.front import Front
    from nas_llm.workflow import ReconstructionRecord

_COLUMNS = {
    "residual_before": "before",
    "residual_after": "after",
    "damping": "damping",
    "held_out": "held-out",
    "primal": "primal",
    "dual": "dual",
}


def reconstruction_table(front: Front, records: Sequence[ReconstructionRecord]) -> Table:
    """The dense model and the points before and after, with what the numbers were measured on."""
    names = ("fitness before", "after", "held-out before", "after", "seconds")
    table = plain_table("point", "ratio", *names)
    dense = front.dense
    scores = (display.perplexity(dense.fitness_perplexity), "", display.perplexity(dense.held_out_perplexity), "")
    table.add_row("dense", costs(dense)[0], *scores, "", style="dim")
    for record in records:
        name = f"{record.point.id} (knee)" if record.point.knee else record.point.id
        pairs = (*record.fitness_perplexity, *record.held_out_perplexity)
        perplexities = (display.perplexity(value) for value in pairs)
        table.add_row(name, costs(record)[0], *perplexities, f"{record.seconds:.1f}")
    settings = records[0].settings
    finished = f"{settings['method']}, {display.text_of(settings.get('text', {}))}".removesuffix(", ")
    kinds = [
        times_dense(front, record.point, {kind: after for kind, (_, after) in record.texts.items()})
        for record in records
    ]
    said = (
        f"perplexity with inherited weights and after {finished}",
        *(_chosen(record) for record in records),
        measured_on(front),
        *kinds,
    )
    table.caption = "; ".join(filter(None, said))
    return table


def _chosen(record: ReconstructionRecord) -> str:
    """What a point took of several steps and blends; empty where there was nothing to choose."""
    chosen = record.settings.get("chosen", {})
    words = ", ".join(f"{name} {value:g}" for name, value in chosen.items())
    return f"{record.point.id} took {words}" if words else ""


def residual_table(record: ReconstructionRecord) -> Table:
    """Relative squared output errors of one point; columns that a method does not fill are left away."""
    shown = [column for column in _COLUMNS if any(row[column] is not None for row in record.residuals)]
    table = plain_table("layer", "projection", *(_COLUMNS[column] for column in shown))
    table.title = f"{record.point.id}: relative squared error of each projection"
    for row in record.residuals:
        numbers = ("" if row[column] is None else f"{row[column]:.4g}" for column in shown)
        table.add_row(str(row["layer"]), str(row["projection"]), *numbers)
    return table
