"""Study definitions: what is tuned, and over which ranges."""

from nas_llm.studies.definition._definition import (
    ParameterSection,
    PrunerSection,
    ReferenceSection,
    SamplerSection,
    StudyDefinition,
)
from nas_llm.studies.definition._load import LoadedStudy, PackagedStudy, list_studies, load_study, resolve_study
from nas_llm.studies.definition._parameters import is_integer, nearest_inside, suggest, tunable_keys
from nas_llm.studies.definition._settings import BASELINES, DEFAULT, PAPER, paper_settings, setting_of, with_settings

__all__ = [
    "BASELINES",
    "DEFAULT",
    "PAPER",
    "LoadedStudy",
    "PackagedStudy",
    "ParameterSection",
    "PrunerSection",
    "ReferenceSection",
    "SamplerSection",
    "StudyDefinition",
    "is_integer",
    "list_studies",
    "load_study",
    "nearest_inside",
    "paper_settings",
    "resolve_study",
    "setting_of",
    "suggest",
    "tunable_keys",
    "with_settings",
]
