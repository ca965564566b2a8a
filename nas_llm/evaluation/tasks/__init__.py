"""Tasks of lm-eval."""

from nas_llm.evaluation.tasks._lm_eval import TaskSuite
from nas_llm.evaluation.tasks._task_groups import COMMONSENSE7_METRICS

__all__ = [
    "COMMONSENSE7_METRICS",
    "TaskSuite",
]
