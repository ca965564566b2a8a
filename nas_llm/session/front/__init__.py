"""The front that a search reports: points, dense and uniform models on text that no candidate has seen."""

from nas_llm.session.front._build_front import build_front
from nas_llm.session.front._texts import TextScore, score_texts

__all__ = ["TextScore", "build_front", "score_texts"]
