"""Models whose sizes are known without weights and without a network."""

from nas_llm.models.known._architecture import KNOWN_MODELS, known_architecture

__all__ = ["KNOWN_MODELS", "known_architecture"]
