"""Chosen points get their weights: methods, plans and words for them, memory."""

from nas_llm.finishing._finisher import Finisher, NamedGenome
from nas_llm.finishing._grams import grams_of
from nas_llm.finishing._inputs import Finished, FinishInputs
from nas_llm.finishing._memory import release_memory
from nas_llm.finishing._plan import FinishPlan, finish_plan, plan_of_run
from nas_llm.finishing._residuals import ResidualRow, residual_csv, residual_rows
from nas_llm.finishing._settings import with_reconstruction
from nas_llm.finishing.methods import FinishingMethod, register_finishing_method

__all__ = [
    "FinishInputs",
    "FinishPlan",
    "Finished",
    "Finisher",
    "FinishingMethod",
    "NamedGenome",
    "ResidualRow",
    "finish_plan",
    "grams_of",
    "plan_of_run",
    "register_finishing_method",
    "release_memory",
    "residual_csv",
    "residual_rows",
    "with_reconstruction",
]
