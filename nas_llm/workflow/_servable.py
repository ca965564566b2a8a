"""Which formats the genomes of a problem can be exported to, before anything is searched."""

from __future__ import annotations

from nas_llm.config import Problem
from nas_llm.export import Servability, servable
from nas_llm.models import load_model
from nas_llm.space import SearchSpace


def what_is_servable(problem: Problem) -> dict[str, Servability]:
    """For each format: which of a problem's genomes it can hold, and which setting would widen that.

    Args:
        problem: The definition; its model is loaded, nothing is calibrated.

    Raises:
        NasLlmError: If the definition cannot be met.
    """
    dense = load_model(problem.model.source, revision=problem.model.revision)
    space = SearchSpace(
        dense.architecture,
        ffn_multiple=problem.space.ffn_multiple,
        attn_ratio=problem.space.attn_ratio,
        mlp_ratio=problem.space.mlp_ratio,
        min_attn_layers=problem.space.min_attn_layers,
        min_mlp_layers=problem.space.min_mlp_layers,
        protected_layers=problem.space.protected_layers,
    )
    return servable(space, dense.model.config, dense=dense)
