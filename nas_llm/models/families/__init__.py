"""Model families: one adapter and one modelling file each."""

from nas_llm.models.families._base import Block, BlockNames, FamilyAdapter, HeadSizes, placed
from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.models.families._modeling import SUBNET_PREFIX, modeling_template
from nas_llm.models.families._registry import (
    adapter_for,
    family_sources,
    family_use,
    known_adapter,
    register_family,
    register_subnet_class,
    supported_model_types,
)
from nas_llm.models.families._value_rotation import rotate_state

__all__ = [
    "SUBNET_PREFIX",
    "Block",
    "BlockNames",
    "FamilyAdapter",
    "HeadSizes",
    "LlamaAdapter",
    "adapter_for",
    "family_sources",
    "family_use",
    "known_adapter",
    "modeling_template",
    "placed",
    "register_family",
    "register_subnet_class",
    "rotate_state",
    "supported_model_types",
]
