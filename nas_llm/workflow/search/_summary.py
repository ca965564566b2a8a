"""What came of a search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas_llm.front import Front


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What came of a search.

    Attributes:
        run_dir: Where everything was written.
        front: The front; None when the search was interrupted before it had one.
        interrupted: Whether it stopped before its budget was spent; it can be resumed.
        evaluations: Distinct genomes evaluated, those before a resumption included.
        seconds: Time of this call.
        report: The HTML report, or None when none was written.
    """

    run_dir: Path
    front: Front | None
    interrupted: bool
    evaluations: int
    seconds: float
    report: Path | None = None
