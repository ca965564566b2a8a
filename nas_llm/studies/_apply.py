"""The best setting of a study as a problem definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from nas_llm.errors import StudyError
from nas_llm.files import write_atomic
from nas_llm.studies._run import StudySummary
from nas_llm.studies.definition import LoadedStudy, with_settings


def write_best(summary: StudySummary, loaded: LoadedStudy, path: Path) -> None:
    """Write the study's problem with the settings of its best trial, for ``nas-llm search``.

    The budget is the study's, for which these settings were found.

    Args:
        summary: What came of the study.
        loaded: The study.
        path: The TOML file; replaced whole.

    Raises:
        StudyError: If no trial is complete.
        RunError: If the file cannot be written.
    """
    if summary.best is None:
        raise StudyError(f"study {summary.name} has no complete trial yet; there is no best setting to write")
    best = summary.trials[summary.best]
    problem = with_settings(loaded.problem, best.settings, where=f"trial {best.number}")
    seeds = ", ".join(str(seed) for seed in loaded.definition.seeds)
    head = (
        f"# Settings of trial {best.number} of the study {summary.name}: hypervolume {best.values[0]:.4f}, "
        f"the mean over seeds {seeds}.\n"
    )
    for label in ("paper", "default"):
        baseline = summary.labelled(label)
        if baseline is not None and baseline.values:
            head += f"# The {label} setting reached {baseline.values[0]:.4f}.\n"
    document = problem.model_dump(exclude_none=True)
    document["data"] = _anchored(document["data"], loaded.loaded.base_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, head + "\n" + tomli_w.dumps(document))


def _anchored(value: Any, base_dir: Path, key: str = "") -> Any:
    """Paths that were relative to the problem's own file have to be found from the new one's place."""
    if isinstance(value, dict):
        return {name: _anchored(item, base_dir, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_anchored(item, base_dir, key) for item in value]
    if key == "source" and isinstance(value, str) and (base_dir / value).exists():
        return str((base_dir / value).resolve())
    return value
