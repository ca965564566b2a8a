"""Dense models and their families."""

from nas_llm.models._attention import blocked_causal_attention, causal_attention
from nas_llm.models._dense import DenseModel
from nas_llm.models._lazy import WeightFiles
from nas_llm.models._loading import (
    hub_options,
    load_model,
    load_tokenizer,
    locate_model,
    on_device,
    quiet_transformers,
    read_config,
    resolve_device,
    resolve_dtype,
    resolve_model,
)
from nas_llm.models._memory import available_bytes, hold_in_memory
from nas_llm.models._packaged import PACKAGED_MODELS, PackagedModel
from nas_llm.models._precision import fast_float32, matmul_rate
from nas_llm.models._provenance import PROVENANCE_FILE, read_provenance
from nas_llm.models._threads import one_thread, steady_activations
from nas_llm.models._whole import load_whole
from nas_llm.models.families import (
    Block,
    BlockNames,
    FamilyAdapter,
    LlamaAdapter,
    adapter_for,
    family_use,
    known_adapter,
    modeling_template,
    register_family,
    rotate_state,
    supported_model_types,
)
from nas_llm.models.known import KNOWN_MODELS, known_architecture

__all__ = [
    "KNOWN_MODELS",
    "PACKAGED_MODELS",
    "PROVENANCE_FILE",
    "Block",
    "BlockNames",
    "DenseModel",
    "FamilyAdapter",
    "LlamaAdapter",
    "PackagedModel",
    "WeightFiles",
    "adapter_for",
    "available_bytes",
    "blocked_causal_attention",
    "causal_attention",
    "family_use",
    "fast_float32",
    "hold_in_memory",
    "hub_options",
    "known_adapter",
    "known_architecture",
    "load_model",
    "load_tokenizer",
    "load_whole",
    "locate_model",
    "matmul_rate",
    "modeling_template",
    "on_device",
    "one_thread",
    "quiet_transformers",
    "read_config",
    "read_provenance",
    "register_family",
    "resolve_device",
    "resolve_dtype",
    "resolve_model",
    "rotate_state",
    "steady_activations",
    "supported_model_types",
]
