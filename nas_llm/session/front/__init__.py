"""The front that a search reports: points, dense and uniform models on text that no candidate has seen."""

from nas_llm.session.front._build_front import build_front
from nas_llm.session.front._texts import TextScore, score_texts
from nas_llm.session.front._uniform import best_uniform

__all__ = ["TextScore", "best_uniform", "build_front", "score_texts"]
