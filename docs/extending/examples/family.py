"""A family: OLMo (the first), which is a Llama whose norms have no weights."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from transformers import PretrainedConfig

from nas_llm.errors import ModelError
from nas_llm.models import LlamaAdapter, register_family
from nas_llm.space import Architecture


@register_family
class OlmoAdapter(LlamaAdapter):
    """Modules have the names that they have in Llama; what differs is said here."""

    name = "olmo"
    model_types = ("olmo",)
    # The modelling file of Llama becomes that of OLMo by these replacements, one after the other.
    renames: ClassVar = {"olmo": (("Llama", "Olmo"), ("llama", "olmo"))}

    def architecture(self, config: PretrainedConfig) -> Architecture:
        if config.clip_qkv is not None:
            raise ModelError("OLMo that clips queries, keys and values is not supported; take one without clip_qkv")
        return replace(super().architecture(config), norm_parameters=0)
