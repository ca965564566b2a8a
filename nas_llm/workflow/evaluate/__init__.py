"""``nas-llm evaluate``: models measured side by side, and what other measuring verbs share with it."""

from nas_llm.workflow.evaluate._evaluate_models import evaluate_models, measured_with
from nas_llm.workflow.evaluate._measure_model import free
from nas_llm.workflow.evaluate._subjects import Loaded, Named, RunPoints, find_subjects
from nas_llm.workflow.evaluate._task_scores import score_tasks
from nas_llm.workflow.evaluate._text_score import WindowCount, score_windows, text_windows

__all__ = [
    "Loaded",
    "Named",
    "RunPoints",
    "WindowCount",
    "evaluate_models",
    "find_subjects",
    "free",
    "measured_with",
    "score_tasks",
    "score_windows",
    "text_windows",
]
