"""Families that are built as Llama but for a few traits, one file each."""

from nas_llm.models.families.decoders._gemma3 import Gemma3Adapter
from nas_llm.models.families.decoders._granite import GraniteAdapter
from nas_llm.models.families.decoders._ministral3 import Ministral3Adapter
from nas_llm.models.families.decoders._qwen import Qwen2Adapter, Qwen3Adapter
from nas_llm.models.families.decoders._smollm3 import SmolLM3Adapter

__all__ = [
    "Gemma3Adapter",
    "GraniteAdapter",
    "Ministral3Adapter",
    "Qwen2Adapter",
    "Qwen3Adapter",
    "SmolLM3Adapter",
]
