"""Optuna is an optional extra: what needs it asks here.

What Optuna and optuna-dashboard do not document as theirs to use (attributes with an underscore, keys of their storage
formats) is used in this file alone, so that a new version of them is one file to look at;
``tests/studies/test_optuna_parts.py`` names the versions that were looked at.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nas_llm.errors import StudyError

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import BaseJournalBackend
    from optuna.trial import FrozenTrial

INSTALL = "pip install 'nas-llm[studies]'"
# System attributes of a trial: parameters that a sampler is not asked for, and constraints as the dashboard reads them.
FIXED_PARAMS, CONSTRAINTS = "fixed_params", "constraints"
# System attributes of a study: its artifacts, and those of trials that are finished and take no attributes any more.
STUDY_ARTIFACTS, TRIAL_ARTIFACTS = "artifacts:", "dashboard:artifacts:"
# What stands behind a journal's name in that of its lock, and the table of a database that holds studies.
LOCK_SUFFIX, STUDIES_TABLE = ".lock", "studies"


def has_optuna() -> bool:
    """Whether Optuna can be imported."""
    return importlib.util.find_spec("optuna") is not None


def require_optuna(what: str) -> None:
    """Refuse to go on without Optuna.

    Raises:
        StudyError: If it is not installed.
    """
    if not has_optuna():
        raise StudyError(f"{what} needs Optuna: {INSTALL}")


def require_dashboard(what: str) -> None:
    """Refuse to go on without optuna-dashboard.

    Raises:
        StudyError: If it is not installed.
    """
    require_optuna(what)
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise StudyError(f"{what} needs optuna-dashboard: {INSTALL}")


def id_of_trial(trial: Trial | FrozenTrial) -> int:
    """What a storage knows a trial by."""
    return trial._trial_id


def id_of_study(study: Study) -> int:
    """What a storage knows a study by."""
    return study._study_id


def storage_of(study: Study) -> BaseStorage:
    """The storage that holds a study."""
    return study._storage


def is_there(study: Study) -> bool:
    """Whether a study is still in its storage: another process can delete it, or the dashboard rename it."""
    try:
        storage_of(study).get_study_name_from_id(id_of_study(study))
    except KeyError:
        return False
    return True


def running_trial(study: Study, number: int) -> Trial:
    """A trial that is in the storage already, to be run by this process.

    Args:
        study: Its study.
        number: Its :func:`id_of_trial`.
    """
    from optuna.trial import Trial

    # Optuna keeps the trials that it has seen of the present trial; a new one begins here.
    study._thread_local.cached_all_trials = None
    return Trial(study, number)


def journal_storage(backend: BaseJournalBackend) -> JournalStorage:
    """A storage in a journal."""
    from optuna.storages import JournalStorage

    storage = JournalStorage(backend)
    # Optuna sets this when it reads a trial of its own back, and asks for it in the middle of a batch.
    storage._replay_result._last_created_trial_id_by_this_process = -1
    return storage


def journal_of(storage: BaseStorage) -> Any:
    """What a journal's storage writes with; None for other storages."""
    return getattr(storage, "_backend", None)


def remembering(database: RDBStorage) -> BaseStorage:
    """A database whose finished trials are read once."""
    from optuna.storages import get_storage

    return get_storage(database)


def late_imports(kind: type) -> list[str]:
    """Packages that a sampler or pruner imports when it is first used, which may be after minutes."""
    from optuna._imports import _LazyImport

    module: Mapping[str, Any] = vars(sys.modules[kind.__module__])
    names = [value._name for value in module.values() if isinstance(value, _LazyImport)]
    return sorted({name.partition(".")[0] for name in names} - {"optuna"})


def dashboard_plots(study: Study) -> Mapping[str, str]:
    """Plots that were put into a study for the dashboard, as JSON by name; none without optuna-dashboard."""
    try:
        from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
    except ImportError:
        return {}
    found: Mapping[str, str] = get_plotly_graph_objects(storage_of(study).get_study_system_attrs(id_of_study(study)))
    return found
