"""Dense models and their families."""

from nas_llm.models._dense import DenseModel
from nas_llm.models._loading import (
    load_model,
    on_device,
    quiet_transformers,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from nas_llm.models._packaged import PACKAGED_MODELS, PackagedModel
from nas_llm.models._precision import fast_float32
from nas_llm.models.families import FamilyAdapter, adapter_for, supported_model_types

__all__ = [
    "PACKAGED_MODELS",
    "DenseModel",
    "FamilyAdapter",
    "PackagedModel",
    "adapter_for",
    "fast_float32",
    "load_model",
    "on_device",
    "quiet_transformers",
    "resolve_device",
    "resolve_dtype",
    "resolve_model",
    "supported_model_types",
]
