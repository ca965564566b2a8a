"""A family of somebody else: Seed-OSS, which is built as Llama but for biases of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.models import LlamaAdapter, register_family
from nas_llm.space import Architecture


@register_family
class SeedOssAdapter(LlamaAdapter):
    """Seed-OSS: q, k and v may have biases that o has not."""

    name = "seed_oss"
    model_types = ("seed_oss",)
    renames: ClassVar = {"seed_oss": (("Llama", "SeedOss"), ("llama", "seed_oss"))}

    def architecture(self, config: PretrainedConfig) -> Architecture:
        return replace(super().architecture(config), o_bias=config.attention_out_bias)
