"""The dense model that an export names: where else it may be, and whether it is still the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nas_llm.errors import ModelError
from nas_llm.events import EventHandler, Notice


@contextmanager
def named_by_export(named: str | None, *, option: str) -> Iterator[None]:
    """Where the export itself names the dense model and it is not there, say which option names another place.

    Args:
        named: The model that the user named; None = the export's.
        option: E.g. ``--model``.
    """
    try:
        yield
    except ModelError as error:
        if named:
            raise
        raise ModelError(f"{error}; the export names it as its dense model, say where it is with {option}") from error


def compare_revision(source: str, revision: str, document: Mapping[str, Any], on_event: EventHandler) -> None:
    """Tell where a dense model is not of the revision that an export was made from."""
    before = document.get("base_revision")
    if before is not None and revision != before:
        on_event(Notice(f"{source} has revision {revision}, the export was made from {before}"))
