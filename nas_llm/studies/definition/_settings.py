"""Settings of the evolution: what the paper has, what is our default, and a problem with some of them changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from nas_llm.config import Problem, apply_override, check_operator_names, faults
from nas_llm.errors import ConfigError
from nas_llm.settings import PaperDefaults

PAPER, DEFAULT = "paper", "default"
BASELINES = (PAPER, DEFAULT)
_PAPER_POPULATION = 100
_LEAST_POPULATION = 8


def paper_settings(evaluations: int) -> dict[str, Any]:
    """The paper's evolution (Shen et al., section 3.3) by NSGA-II, for a budget.

    Population 100, P_m 0.3, P_s 0.1, P_d 0.1, alpha 0.8, masks redrawn uniformly, a third of the children by
    crossover, whole generations, no guidance and no transfer of budget between layers. The paper has 5,000
    evaluations; a smaller budget gets a population of at most a quarter of it, so that there are generations left.

    Args:
        evaluations: The budget of a search.
    """
    population = min(_PAPER_POPULATION, max(_LEAST_POPULATION, evaluations // 4), evaluations)
    return {
        "search.algorithm": "nsga2",
        "search.algorithm_args.n_offsprings": population,
        "search.population": population,
        "search.operators.mask_probability": PaperDefaults.mask_probability,
        "search.operators.ratio_probability": PaperDefaults.ratio_probability,
        "search.operators.depth_probability": PaperDefaults.depth_probability,
        "search.operators.guided_probability": 0.0,
        "search.operators.alpha": PaperDefaults.alpha,
        "search.operators.temperature": PaperDefaults.temperature,
        "search.operators.transfer_probability": PaperDefaults.transfer_probability,
        "search.operators.crossover": "uniform",
        "search.operators.crossover_probability": PaperDefaults.crossovers,
    }


def with_settings(problem: Problem, settings: Mapping[str, Any], *, where: str = "settings") -> Problem:
    """A problem with some dotted keys changed; another algorithm begins without the arguments of the problem's own.

    Args:
        problem: The problem.
        settings: Dotted key to value.
        where: What messages are about.

    Raises:
        ConfigError: If the result is not valid.
    """
    data = problem.model_dump(exclude_none=True)
    if settings.get("search.algorithm", problem.search.algorithm) != problem.search.algorithm:
        data["search"]["algorithm_args"] = {}
    for key, value in settings.items():
        apply_override(data, key, value)
    try:
        changed = Problem.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ConfigError(
            f"{where}: {'; '.join(fault.message for fault in faults(error, Problem, data)[:3])}"
        ) from error
    check_operator_names(changed)
    return changed


def setting_of(problem: Problem, key: str) -> Any:
    """The value of a dotted key; None where it is not set."""
    value: Any = problem.model_dump()
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value
