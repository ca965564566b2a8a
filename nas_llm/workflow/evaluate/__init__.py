"""``nas-llm evaluate``: models measured side by side."""

from nas_llm.workflow.evaluate._evaluate_models import evaluate_models, measured_with

__all__ = [
    "evaluate_models",
    "measured_with",
]
