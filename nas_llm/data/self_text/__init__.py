"""The dense model's own text."""

from nas_llm.data.self_text._cache import cached_self_texts
from nas_llm.data.self_text._sample import sample_documents

__all__ = [
    "cached_self_texts",
    "sample_documents",
]
