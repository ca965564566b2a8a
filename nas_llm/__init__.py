"""Find better architectures inside a pretrained language model, without training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas_llm.evaluation import load
    from nas_llm.front import load_genome

__all__ = ["load", "load_genome"]


def __getattr__(name: str) -> Any:
    """Fetch what is public late: a plain ``import nas_llm`` stays light."""
    if name == "load":
        from nas_llm.evaluation import load

        return load
    if name == "load_genome":
        from nas_llm.front import load_genome

        return load_genome
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
