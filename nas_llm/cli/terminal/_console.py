"""Where the command line writes: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 140


def output() -> Console:
    """Results. A pipe has no width of its own, so tables are not folded to 80 columns there."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def progress_output() -> Console:
    """Progress."""
    from rich.console import Console

    return Console(stderr=True, width=None if sys.stderr.isatty() else _PIPE_WIDTH, highlight=False)


def line(console: Console, text: str, style: str = "") -> None:
    """Print text as it is: no markup, no folding."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def fail(message: str) -> None:
    """Say what went wrong, in one line."""
    line(progress_output(), f"error: {' '.join(message.split())}")
