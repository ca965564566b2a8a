"""The front that a search reports: points, dense and uniform models on text that no candidate has seen."""

from nas_llm.session.front._build_front import build_front

__all__ = ["build_front"]
