"""A search shown in an Optuna storage while it runs."""

from nas_llm.studies.mirror._mirror import SearchMirror
from nas_llm.studies.mirror._plots import PLOTS

__all__ = [
    "PLOTS",
    "SearchMirror",
]
