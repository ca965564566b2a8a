"""Dense models and their families."""

from nas_llm.models._attention import blocked_causal_attention
from nas_llm.models._dense import DenseModel
from nas_llm.models._lazy import WeightFiles
from nas_llm.models._loading import (
    load_any,
    load_model,
    on_device,
    quiet_transformers,
    read_config,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from nas_llm.models._memory import available_bytes
from nas_llm.models._own_exports import PROVENANCE_FILE, provenance
from nas_llm.models._packaged import PACKAGED_MODELS, PackagedModel
from nas_llm.models._precision import fast_float32, matmul_rate
from nas_llm.models.families import Block, FamilyAdapter, adapter_for, supported_model_types

__all__ = [
    "PACKAGED_MODELS",
    "PROVENANCE_FILE",
    "Block",
    "DenseModel",
    "FamilyAdapter",
    "PackagedModel",
    "WeightFiles",
    "adapter_for",
    "available_bytes",
    "blocked_causal_attention",
    "fast_float32",
    "load_any",
    "load_model",
    "matmul_rate",
    "on_device",
    "provenance",
    "quiet_transformers",
    "read_config",
    "resolve_device",
    "resolve_dtype",
    "resolve_model",
    "supported_model_types",
]
