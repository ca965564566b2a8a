"""Files of a finished search as artifacts of its study: the report, the front, the genomes of its points."""

from __future__ import annotations

import json
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from nas_llm.runs import FRONT_FILE
from nas_llm.studies._optuna import STUDY_ARTIFACTS, TRIAL_ARTIFACTS, id_of_study, id_of_trial
from nas_llm.studies.mirror._trials import trial_of_search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

    from nas_llm.workflow.search import RunSummary

_BINARY = "application/octet-stream"


def attach_artifacts(study: Study, storage: BaseStorage, folder: Path, summary: RunSummary) -> None:
    """Attach the report and ``front.json`` to the study, and to the trial of each point of the front its genome.

    Args:
        study: The mirror of the search.
        storage: Its storage.
        folder: Where the files go.
        summary: What came of the search.
    """
    from optuna.artifacts import FileSystemArtifactStore, upload_artifact

    folder.mkdir(exist_ok=True)
    store = FileSystemArtifactStore(folder)
    _clear(study, storage, folder)
    for path in (summary.report, summary.run_dir / FRONT_FILE):
        if path is not None and path.is_file():
            upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study)
    assert summary.front is not None
    trials = {
        trial.user_attrs.get("digest"): trial for trial in study.get_trials(deepcopy=False) if trial_of_search(trial)
    }
    with tempfile.TemporaryDirectory() as scratch:
        for point in summary.front.points:
            trial = trials.get(point.digest)
            if trial is None:
                continue
            path = Path(scratch) / f"{point.id}-genome.bin"
            path.write_bytes(point.genome.to_bytes())
            artifact = str(uuid.uuid4())
            with path.open("rb") as file:
                store.write(artifact, file)
            meta = {"artifact_id": artifact, "filename": path.name, "mimetype": _BINARY, "encoding": None}
            key = f"{TRIAL_ARTIFACTS}{id_of_trial(trial)}:{artifact}"
            storage.set_study_system_attr(id_of_study(study), key, json.dumps(meta))


def _clear(study: Study, storage: BaseStorage, folder: Path) -> None:
    """Take away what an earlier end of the same search left."""
    for key, meta in storage.get_study_system_attrs(id_of_study(study)).items():
        if key.startswith((STUDY_ARTIFACTS, TRIAL_ARTIFACTS)) and json.loads(meta) is not None:
            (folder / key.rpartition(":")[2]).unlink(missing_ok=True)
            storage.set_study_system_attr(id_of_study(study), key, json.dumps(None))
