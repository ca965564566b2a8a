"""Model families: one adapter and one modelling file each."""

from nas_llm.models.families._base import Block, BlockNames, FamilyAdapter
from nas_llm.models.families._registry import (
    SUBNET_PREFIX,
    adapter_for,
    register_subnet_class,
    supported_model_types,
)

__all__ = [
    "SUBNET_PREFIX",
    "Block",
    "BlockNames",
    "FamilyAdapter",
    "adapter_for",
    "register_subnet_class",
    "supported_model_types",
]
