"""Find better architectures inside a pretrained language model, without training."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_llm.config import load_problem
    from nas_llm.evaluation import load
    from nas_llm.front import Front, FrontPoint, load_genome, read_genomes
    from nas_llm.runs import Run, open_run
    from nas_llm.session import Session
    from nas_llm.space import Genome
    from nas_llm.workflow import (
        compare_models,
        evaluate_models,
        export_points,
        posttrain_export,
        reconstruct_points,
        run_search,
    )

# Name to the package that has it; fetched when asked for, so that a plain ``import nas_llm`` stays light.
_HOMES = {
    "Front": "front",
    "FrontPoint": "front",
    "Genome": "space",
    "Run": "runs",
    "Session": "session",
    "compare_models": "workflow",
    "evaluate_models": "workflow",
    "export_points": "workflow",
    "load": "evaluation",
    "load_genome": "front",
    "load_problem": "config",
    "open_run": "runs",
    "posttrain_export": "workflow",
    "read_genomes": "front",
    "reconstruct_points": "workflow",
    "run_search": "workflow",
}

__all__ = [
    "Front",
    "FrontPoint",
    "Genome",
    "Run",
    "Session",
    "compare_models",
    "evaluate_models",
    "export_points",
    "load",
    "load_genome",
    "load_problem",
    "open_run",
    "posttrain_export",
    "read_genomes",
    "reconstruct_points",
    "run_search",
]


def __getattr__(name: str) -> Any:
    """Fetch what is public late."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Everything that is public."""
    return sorted({*globals(), *__all__})
