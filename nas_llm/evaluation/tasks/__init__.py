"""What tasks of lm-eval there are, what their scores mean, and lm-eval kept in its place."""

from nas_llm.evaluation.tasks._contained import OnRequests, contained, without_git
from nas_llm.evaluation.tasks._task_groups import COMMONSENSE7, COMMONSENSE7_METRICS, commonsense7_mean, expand
from nas_llm.evaluation.tasks._task_index import builtin_folder, require_lm_eval, task_folders
from nas_llm.evaluation.tasks._task_metrics import UNKNOWN, MetricKind, metric_kinds

__all__ = [
    "COMMONSENSE7",
    "COMMONSENSE7_METRICS",
    "UNKNOWN",
    "MetricKind",
    "OnRequests",
    "builtin_folder",
    "commonsense7_mean",
    "contained",
    "expand",
    "metric_kinds",
    "require_lm_eval",
    "task_folders",
    "without_git",
]
