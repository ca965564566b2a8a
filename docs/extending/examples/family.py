"""A family: Qwen2, which is a Llama with biases at q, k and v."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.errors import ModelError
from nas_llm.models import LlamaAdapter, register_family
from nas_llm.space import Architecture


@register_family
class Qwen2Adapter(LlamaAdapter):
    """Modules have the names that they have in Llama; what differs is said here."""

    name = "qwen2"
    model_types = ("qwen2",)
    # The modelling file of Llama becomes that of Qwen2 by these replacements, one after the other.
    renames: ClassVar = {
        "qwen2": (
            ("Llama", "Qwen2"),
            ("llama", "qwen2"),
            ("self.gradient_checkpointing = False", "self.gradient_checkpointing = self.has_sliding_layers = False"),
        )
    }

    def architecture(self, config: PretrainedConfig) -> Architecture:
        if "sliding_attention" in config.layer_types:
            raise ModelError("Qwen2 with sliding windows is not supported; set use_sliding_window to false")
        return replace(super().architecture(config), qkv_bias=True)
