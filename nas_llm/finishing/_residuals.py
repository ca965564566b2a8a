"""Residuals of a reconstruction as rows of a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from nas_llm.reconstruction import Residual

ResidualRow = Mapping[str, int | float | str | None]
"""One refitted projection: ``layer``, ``projection``, ``residual_before``, ``residual_after``, ``damping``,
``held_out`` (residual on windows held out to choose it), and ``primal`` and ``dual`` of the last iteration of ADMM."""

_COLUMNS = {
    "layer": "layer",
    "projection": "projection",
    "residual_before": "before",
    "residual_after": "after",
    "damping": "damping",
    "held_out": "held_out",
    "primal": "primal",
    "dual": "dual",
}


def residual_rows(residuals: Sequence[Residual]) -> tuple[ResidualRow, ...]:
    """One row a projection; None where a method has no such number."""
    found = [asdict(residual) for residual in residuals]
    return tuple({column: values.get(name) for column, name in _COLUMNS.items()} for values in found)


def residual_csv(rows: Sequence[ResidualRow]) -> str:
    """The rows as CSV with six digits, empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(_COLUMNS), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return text.getvalue()
