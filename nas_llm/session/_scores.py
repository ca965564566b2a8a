"""The scores of a run, kept as they were when it began."""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile

from nas_llm.errors import RunError, first_line
from nas_llm.files import write_atomic
from nas_llm.runs import SCORES_FILE, checkpoint_folder
from nas_llm.session._prepared import Prepared
from nas_llm.space import UnitScores


def scores_of_run(run_dir: Path, prepared: Prepared) -> UnitScores:
    """The scores that this run began with: computed again elsewhere, they might differ in the last digit."""
    path = checkpoint_folder(run_dir) / SCORES_FILE
    try:
        if not path.is_file():
            write_atomic(path, prepared.calibration.scores.write)
        return UnitScores.load(path)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise RunError(f"cannot write or read {path}: {first_line(error)}; start a new run") from error
