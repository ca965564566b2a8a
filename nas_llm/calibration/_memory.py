"""What a calibration takes, from sizes alone."""

from __future__ import annotations

from nas_llm.space import Architecture

_FLOAT32 = 4


def calibration_bytes(architecture: Architecture, *, tokens: int) -> int:
    """Memory beside the model: hidden states of all calibration tokens, and one block's Gram matrices.

    Args:
        architecture: The dense model.
        tokens: Calibration tokens.
    """
    return _FLOAT32 * (tokens * architecture.hidden_size + gram_products(architecture))


def kept_gram_bytes(architecture: Architecture) -> int:
    """Size on disk of the Grams that are kept for reconstruction: those of the inputs of o and fc2 of every block."""
    heads, channels = architecture.num_heads * architecture.head_dim, architecture.intermediate_size
    return _FLOAT32 * architecture.num_layers * (heads**2 + heads + channels**2 + channels)


def gram_products(architecture: Architecture) -> int:
    """Entries of one block's four Gram matrices; each takes one multiply-accumulate a token."""
    heads = architecture.num_heads * architecture.head_dim
    return 2 * architecture.hidden_size**2 + heads**2 + architecture.intermediate_size**2
