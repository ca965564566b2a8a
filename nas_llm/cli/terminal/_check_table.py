"""What problems ask for, side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from nas_llm import display
from nas_llm.cli.terminal._tables import plain_table

if TYPE_CHECKING:
    from nas_llm.workflow import ProblemCheck


def check_table(checks: Mapping[str, ProblemCheck]) -> Table:
    """One row a problem, by the name that it was asked for by."""
    table = plain_table("problem", "parameters", "MACs/token", "ratio", "kept", "memory", "disk", "candidates", "time")
    for name, check in checks.items():
        table.add_row(
            name,
            f"{check.dense.params:,}",
            display.count(check.dense.macs_per_token),
            f"{check.lowest.inheriting_ratio:.3f}-{check.highest.inheriting_ratio:.3f}",
            f"{display.count(check.lowest.params)}-{display.count(check.highest.params)}",
            display.size(check.memory),
            display.size(check.disk),
            f"{check.candidates:,}",
            display.duration(check.seconds),
        )
    return table


def check_notes(checks: Iterable[ProblemCheck]) -> list[str]:
    """What the columns mean, and at which speeds the times are estimated."""
    speeds = {(check.device, check.dtype): check.rate for check in checks}
    listed = ", ".join(
        f"{display.count(rate)} multiply-accumulates/s ({dtype}, {device})" for (device, dtype), rate in speeds.items()
    )
    return [
        "ratio, kept: smallest and largest inheriting ratio, and parameters, within [space] and [constraints]",
        "memory: weights, and hidden states and Gram matrices of the calibration or one window of a candidate; "
        "disk: Gram matrices in the cache folder",
        f"time: estimate for a whole search from its matrix products alone, at {listed} as measured now",
    ]
