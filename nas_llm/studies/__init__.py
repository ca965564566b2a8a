"""Optuna around the search: tuning the evolution, and showing a search live in optuna-dashboard.

Optuna is an optional extra, ``pip install 'nas-llm[studies]'``; definitions can be read without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas_llm.errors import Interrupted
from nas_llm.studies._optuna import has_optuna, require_dashboard, require_optuna
from nas_llm.studies._storage import open_storage
from nas_llm.studies.definition import (
    LoadedStudy,
    PackagedStudy,
    ParameterSection,
    PrunerSection,
    ReferenceSection,
    SamplerSection,
    StudyDefinition,
    list_studies,
    load_study,
    paper_settings,
    resolve_study,
    tunable_keys,
    with_settings,
)

if TYPE_CHECKING:
    from nas_llm.studies._apply import write_best
    from nas_llm.studies._html import export_html
    from nas_llm.studies._objective import SearchObjective, make_objective
    from nas_llm.studies._run import StudySummary, TrialSummary, run_study, study_summary
    from nas_llm.studies._workbench import Workbench
    from nas_llm.studies.dashboard import serve_dashboard
    from nas_llm.studies.mirror import SearchMirror

__all__ = [
    "Interrupted",
    "LoadedStudy",
    "PackagedStudy",
    "ParameterSection",
    "PrunerSection",
    "ReferenceSection",
    "SamplerSection",
    "SearchMirror",
    "SearchObjective",
    "StudyDefinition",
    "StudySummary",
    "TrialSummary",
    "Workbench",
    "export_html",
    "has_optuna",
    "list_studies",
    "load_study",
    "make_objective",
    "open_storage",
    "paper_settings",
    "require_dashboard",
    "require_optuna",
    "resolve_study",
    "run_study",
    "serve_dashboard",
    "study_summary",
    "tunable_keys",
    "with_settings",
    "write_best",
]

# What loads torch or plotly, and the module that has it.
_LATE = {
    "SearchMirror": "mirror",
    "SearchObjective": "_objective",
    "StudySummary": "_run",
    "TrialSummary": "_run",
    "Workbench": "_workbench",
    "export_html": "_html",
    "make_objective": "_objective",
    "run_study": "_run",
    "serve_dashboard": "dashboard",
    "study_summary": "_run",
    "write_best": "_apply",
}


def __getattr__(name: str) -> Any:
    """Fetch what is heavy when it is asked for: definitions can be listed and checked without it."""
    if name in _LATE:
        return getattr(import_module(f"nas_llm.studies.{_LATE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
