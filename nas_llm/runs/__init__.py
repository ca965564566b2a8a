"""Run directories: every file name, what they hold, what may change on a resume, the lock. No tensor library here.

What needs the definition (:func:`open_run` and others) loads pydantic, late; :func:`open_front` does not.
"""

from typing import TYPE_CHECKING, Any

from nas_llm.runs._find import default_run_directory, find_run, named_run
from nas_llm.runs._layout import (
    ARTIFACTS_FOLDER,
    CHECKPOINT_FOLDER,
    DESCENT_FILE,
    EXPORTS_FOLDER,
    FRONT_FILE,
    HISTORY_FILE,
    JOURNAL_FILE,
    LATENCY_FILE,
    LOCK_FILE,
    PROBLEM_FILE,
    RECONSTRUCTION_FOLDER,
    REPORT_FILE,
    RUNS_FOLDER,
    SCORES_FILE,
    START_FILE,
    WORKLOADS_FILE,
    checkpoint_folder,
    is_run,
)
from nas_llm.runs._lock import RunLock
from nas_llm.runs._open_front import open_front
from nas_llm.runs._resolved import Resolved
from nas_llm.runs._versions import package_versions
from nas_llm.runs._workloads import read_workloads

if TYPE_CHECKING:
    from nas_llm.runs._run import Run, check_same_problem, open_run, read_problem, read_resolved, write_problem
    from nas_llm.runs._what_may_change import fixed_part, free_plugins, may_change, what_changed

__all__ = [
    "ARTIFACTS_FOLDER",
    "CHECKPOINT_FOLDER",
    "DESCENT_FILE",
    "EXPORTS_FOLDER",
    "FRONT_FILE",
    "HISTORY_FILE",
    "JOURNAL_FILE",
    "LATENCY_FILE",
    "LOCK_FILE",
    "PROBLEM_FILE",
    "RECONSTRUCTION_FOLDER",
    "REPORT_FILE",
    "RUNS_FOLDER",
    "SCORES_FILE",
    "START_FILE",
    "WORKLOADS_FILE",
    "Resolved",
    "Run",
    "RunLock",
    "check_same_problem",
    "checkpoint_folder",
    "default_run_directory",
    "find_run",
    "fixed_part",
    "free_plugins",
    "is_run",
    "may_change",
    "named_run",
    "open_front",
    "open_run",
    "package_versions",
    "read_problem",
    "read_resolved",
    "read_workloads",
    "what_changed",
    "write_problem",
]


def __getattr__(name: str) -> Any:
    """Fetch what needs the definition when it is asked for."""
    if name in ("Run", "check_same_problem", "open_run", "read_problem", "read_resolved", "write_problem"):
        from nas_llm.runs import _run

        return getattr(_run, name)
    if name in ("fixed_part", "free_plugins", "may_change", "what_changed"):
        from nas_llm.runs import _what_may_change

        return getattr(_what_may_change, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
