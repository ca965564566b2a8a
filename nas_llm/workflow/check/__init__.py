"""What a problem asks for, before anything is loaded: sizes, window, memory, time."""

from nas_llm.workflow.check._check_problem import ProblemCheck, check_problem, measured_rate

__all__ = [
    "ProblemCheck",
    "check_problem",
    "measured_rate",
]
