"""A family: Qwen2, which is a Llama with biases at q, k and v."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.models import LlamaAdapter, register_family
from nas_llm.space import Architecture


@register_family
class Qwen2Adapter(LlamaAdapter):
    """The modules have the same names, so all that differs is the counting and the text of the modelling file."""

    name = "qwen2"
    model_types = ("qwen2",)
    renames: ClassVar = {"qwen2": (("Llama", "Qwen2"), ("llama", "qwen2"))}

    def architecture(self, config: PretrainedConfig) -> Architecture:
        return replace(super().architecture(config), qkv_bias=True)
