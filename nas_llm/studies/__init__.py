"""Optuna around the search: tuning the evolution, and showing a search live in optuna-dashboard.

Optuna is an optional extra, ``pip install 'nas-llm[studies]'``; definitions can be read without it.
"""

from nas_llm.errors import Interrupted
from nas_llm.studies._apply import write_best
from nas_llm.studies._dashboard import serve_dashboard
from nas_llm.studies._definition import (
    ParameterSection,
    PrunerSection,
    ReferenceSection,
    SamplerSection,
    StudyDefinition,
)
from nas_llm.studies._html import export_html
from nas_llm.studies._load import LoadedStudy, PackagedStudy, list_studies, load_study, resolve_study
from nas_llm.studies._mirror import SearchMirror
from nas_llm.studies._objective import SearchObjective, make_objective
from nas_llm.studies._parameters import tunable_keys
from nas_llm.studies._run import StudySummary, TrialSummary, run_study, study_summary
from nas_llm.studies._settings import paper_settings, with_settings
from nas_llm.studies._storage import open_storage
from nas_llm.studies._workbench import Workbench

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
    "list_studies",
    "load_study",
    "make_objective",
    "open_storage",
    "paper_settings",
    "resolve_study",
    "run_study",
    "serve_dashboard",
    "study_summary",
    "tunable_keys",
    "with_settings",
    "write_best",
]
