"""``nas-llm compare``: models and fronts beside the first of them, with error bars."""

from nas_llm.workflow.compare._compare_models import compare_models
from nas_llm.workflow.compare._records import (
    ComparedFront,
    ComparedGroup,
    ComparedModel,
    Comparison,
    Measured,
    TaskPair,
    compared_group,
)

__all__ = [
    "ComparedFront",
    "ComparedGroup",
    "ComparedModel",
    "Comparison",
    "Measured",
    "TaskPair",
    "compare_models",
    "compared_group",
]
