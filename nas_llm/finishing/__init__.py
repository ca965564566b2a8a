"""Chosen points get their weights: methods, settings and words for them, memory."""

from nas_llm.finishing._finisher import Finished, Finisher
from nas_llm.finishing._memory import release_memory
from nas_llm.finishing._residuals import ResidualRow, residual_csv, residual_rows
from nas_llm.finishing._settings import as_options, describe, in_words, settings, with_reconstruction

__all__ = [
    "Finished",
    "Finisher",
    "ResidualRow",
    "as_options",
    "describe",
    "in_words",
    "release_memory",
    "residual_csv",
    "residual_rows",
    "settings",
    "with_reconstruction",
]
