"""SmolLM3: some layers without rotary positions."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.models.families._llama import LlamaAdapter, longest_full_window
from nas_llm.models.families._llama_block import BlockTraits
from nas_llm.space import Architecture


class SmolLM3Adapter(LlamaAdapter):
    """SmolLM3: every fourth layer has no rotary positions."""

    name: ClassVar[str] = "smollm3"
    model_types: ClassVar[tuple[str, ...]] = ("smollm3",)
    traits_known: ClassVar[tuple[str, ...]] = model_types
    renames: ClassVar = {"smollm3": (("Llama", "SmolLM3"), ("llama", "smollm3"))}

    def architecture(self, config: PretrainedConfig) -> Architecture:
        """Sizes of a dense SmolLM3."""
        return replace(super().architecture(config), max_positions=longest_full_window(config))

    def traits(self, config: PretrainedConfig, layer: int) -> BlockTraits:
        """Some layers do not turn."""
        return replace(super().traits(config, layer), rotary=bool(config.no_rope_layers[layer]))
