"""The measured times of a run's workloads, read without anything heavy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nas_llm.errors import NasLlmError, RunError
from nas_llm.runs._layout import WORKLOADS_FILE
from nas_llm.workloads import WorkloadTables


def read_workloads(directory: Path, needed: Sequence[str] = ()) -> dict[str, WorkloadTables]:
    """Read ``workloads.json`` of a run directory; empty where there is none.

    Args:
        directory: The run directory.
        needed: Workloads that must be there.

    Raises:
        RunError: If the file cannot be read, or one is missing.
    """
    path = directory / WORKLOADS_FILE
    if not path.is_file() and not needed:
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = {str(name): WorkloadTables.from_dict(tables) for name, tables in data.items()}
    except (OSError, ValueError, AttributeError, NasLlmError) as error:
        raise RunError(f"{path} is damaged and cannot be read: {error}") from error
    missing = [name for name in needed if name not in found]
    if missing:
        raise RunError(f"{path} has no times of workload {missing[0]}; start the search anew in another directory")
    return found
