"""Which formats the genomes of a problem can be exported to, before anything is searched."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from nas_llm.config import Problem
from nas_llm.errors import ExportError
from nas_llm.models import load_model
from nas_llm.space import SearchSpace


class Hindrance(Protocol):
    """What keeps genomes of a space out of a format, or makes them worse there."""

    reason: str
    setting: str | None
    value: str | None
    blocks: bool


class Servability(Protocol):
    """How much of a space one format can hold: ``all``, ``some`` or ``none`` of its genomes."""

    format: str
    genomes: str
    hindrances: Iterable[Hindrance]


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
    answers: dict[str, Servability] = _servable(space, dense.model.config)
    return answers


def _servable(space: SearchSpace, config: Any) -> Any:
    from nas_llm import export

    check = getattr(export, "servable", None)
    if check is None:
        raise ExportError("this version of nas-llm knows one format, hf, and every genome can be exported to it")
    return check(space, config)
