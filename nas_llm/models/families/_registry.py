"""Which adapter serves which model type."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from nas_llm.errors import ModelError
from nas_llm.models.families._base import FamilyAdapter
from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.models.families._opt import OPTAdapter

SUBNET_PREFIX = "nas_"
"""What stands before a dense model's ``model_type`` in that of its subnets."""
_ADAPTERS: tuple[FamilyAdapter, ...] = (LlamaAdapter(), OPTAdapter())


def supported_model_types() -> list[str]:
    """transformers ``model_type`` values that can be searched."""
    return sorted(model_type for adapter in _ADAPTERS for model_type in adapter.model_types)


def adapter_for(model_type: str) -> FamilyAdapter:
    """The adapter of a model type.

    Raises:
        ModelError: If no family covers it.
    """
    for adapter in _ADAPTERS:
        if model_type in adapter.model_types:
            return adapter
    raise ModelError(f"model type '{model_type}' is not supported; supported are {', '.join(supported_model_types())}")


def register_subnet_class(where: str, **kwargs: str) -> None:
    """Make transformers' Auto classes load an export without running the code that it carries; others are left alone.

    Args:
        where: What ``from_pretrained`` takes.
        kwargs: ``revision``, if any.
    """
    try:
        subnet_type = PretrainedConfig.get_config_dict(where, **kwargs)[0].get("model_type", "")
    except Exception:  # transformers raises many kinds for what is no configuration
        # Whoever loads it says what is wrong with it.
        return
    for adapter in _ADAPTERS:
        for model_type in adapter.model_types:
            if subnet_type == f"{SUBNET_PREFIX}{model_type}":
                modeling = adapter.modeling(model_type)
                AutoConfig.register(subnet_type, modeling.CONFIG_CLASS, exist_ok=True)
                AutoModelForCausalLM.register(modeling.CONFIG_CLASS, modeling.MODEL_CLASS, exist_ok=True)
