"""Small spaces for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nas_llm.space import Architecture

_SIZES: dict[str, Any] = {
    "family": "llama",
    "num_layers": 3,
    "hidden_size": 12,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_dim": 4,
    "intermediate_size": 16,
    "vocab_size": 30,
    "gated_mlp": True,
    "qkv_bias": False,
    "o_bias": False,
    "mlp_bias": False,
    "norm_parameters": 12,
    "norm_outside": False,
    "final_norm": True,
    "tied_embeddings": True,
    "embedding_size": 12,
    "position_parameters": 0,
    "max_positions": 64,
}


@pytest.fixture
def make_architecture() -> Callable[..., Architecture]:
    def make(**sizes: Any) -> Architecture:
        return Architecture(**{**_SIZES, **sizes})

    return make


@pytest.fixture
def architecture(make_architecture: Callable[..., Architecture]) -> Architecture:
    return make_architecture()
