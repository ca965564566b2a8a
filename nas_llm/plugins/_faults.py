"""What is said when a stranger's code fails while it is used."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas_llm.errors import ConfigError, Interrupted, NasLlmError, first_line


@contextmanager
def named_faults(kind: str, code: object) -> Iterator[None]:
    """Whatever a stranger's object raises in here becomes one line that names it, and where; ours raises as it is.

    Args:
        kind: What it is, e.g. ``"mutation"``.
        code: The object that is at work.

    Raises:
        ConfigError: If it failed.
    """
    try:
        yield
    except (NasLlmError, Interrupted, MemoryError):
        raise
    except Exception as error:  # whatever a stranger's code raises
        if type(code).__module__.partition(".")[0] == __package__.partition(".")[0]:
            raise
        raise ConfigError(
            f"{kind} {type(code).__name__} failed{_place(code, error)}: {type(error).__name__}: {first_line(error)}"
        ) from error


def _place(code: object, error: Exception) -> str:
    """The last line of the object's own file that led to the error."""
    file = getattr(inspect.getmodule(type(code)), "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" in line {lines[-1]} of {Path(str(file)).name}" if lines else ""
