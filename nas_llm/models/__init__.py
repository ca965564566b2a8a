"""Dense models and their families."""

from nas_llm.models._attention import blocked_causal_attention
from nas_llm.models._dense import DenseModel
from nas_llm.models._lazy import WeightFiles, available_bytes
from nas_llm.models._loading import (
    LOAD_FAULTS,
    hub_options,
    load_fault,
    load_model,
    locate_model,
    on_device,
    quiet_transformers,
    read_config,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from nas_llm.models._packaged import PACKAGED_MODELS, PackagedModel
from nas_llm.models._precision import fast_float32, matmul_rate
from nas_llm.models.families import Block, FamilyAdapter, adapter_for, supported_model_types

__all__ = [
    "LOAD_FAULTS",
    "PACKAGED_MODELS",
    "Block",
    "DenseModel",
    "FamilyAdapter",
    "PackagedModel",
    "WeightFiles",
    "adapter_for",
    "available_bytes",
    "blocked_causal_attention",
    "fast_float32",
    "hub_options",
    "load_fault",
    "load_model",
    "locate_model",
    "matmul_rate",
    "on_device",
    "quiet_transformers",
    "read_config",
    "resolve_device",
    "resolve_dtype",
    "resolve_model",
    "supported_model_types",
]
