"""Every file name of a run directory."""

from __future__ import annotations

from pathlib import Path

from nas_llm.front import FRONT_FILE

RUNS_FOLDER = Path("runs")
"""Where runs lie that are named without a folder."""

PROBLEM_FILE = "problem.toml"
HISTORY_FILE = "history.sqlite"
REPORT_FILE = "report.html"
LATENCY_FILE = "latency.json"
WORKLOADS_FILE = "workloads.json"
EXPORTS_FOLDER = "exports"
RECONSTRUCTION_FOLDER = "reconstruction"
JOURNAL_FILE = "study.journal"
ARTIFACTS_FOLDER = "artifacts"

CHECKPOINT_FOLDER = "checkpoint"
LOCK_FILE = "lock"
SCORES_FILE = "scores.npz"
START_FILE = "start.json"
DESCENT_FILE = "descent.json"

RESOLVED = "resolved"
"""The table of ``problem.toml`` that says what a definition was resolved to."""

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
    "RESOLVED",
    "RUNS_FOLDER",
    "SCORES_FILE",
    "START_FILE",
    "WORKLOADS_FILE",
]


def is_run(directory: Path) -> bool:
    """Whether a search has begun in a directory."""
    return (directory / PROBLEM_FILE).is_file()


def checkpoint_folder(directory: Path) -> Path:
    """The folder of a run that holds the state of its search; it is made if need be."""
    folder = directory / CHECKPOINT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder
