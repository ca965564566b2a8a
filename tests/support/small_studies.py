"""A study of the packaged test model that takes seconds."""

from __future__ import annotations

from typing import Any

from nas_llm.studies import LoadedStudy, StudyDefinition, resolve_study

SMALL = ("data.calibration.tokens=1024", "data.fitness.tokens=512", "data.held_out.tokens=256")


def small_study(**changes: Any) -> LoadedStudy:
    """A study of the packaged test model, seconds long."""
    parameters = {
        "search.population": {"low": 4, "high": 12, "step": 4},
        "search.operators.guided_probability": {"low": 0.0, "high": 1.0},
        "search.operators.crossover": {"choices": ["uniform", "one_point"]},
    }
    document: dict[str, Any] = {
        "name": "small",
        "problem": "tiny-llama",
        "set": SMALL,
        "evaluations": 16,
        "seeds": [0],
        "trials": 4,
        "sampler": {"name": "random"},
        "pruner": {"name": "none"},
        "parameters": parameters,
    }
    return resolve_study(StudyDefinition.model_validate(document | changes))
