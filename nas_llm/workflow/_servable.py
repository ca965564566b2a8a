"""Which formats the genomes of a problem can be exported to, before anything is searched."""

from __future__ import annotations

from nas_llm.config import Problem
from nas_llm.export import Servability, servable
from nas_llm.models import load_model
from nas_llm.session import search_space


def what_is_servable(problem: Problem) -> dict[str, Servability]:
    """For each format: which of a problem's genomes it can hold, and which setting would widen that.

    Args:
        problem: The definition; its model is loaded, nothing is calibrated.

    Raises:
        NasLlmError: If the definition cannot be met.
    """
    dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
    return servable(search_space(problem, dense.architecture), dense.model.config, dense=dense)
