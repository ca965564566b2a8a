"""Small dense models with random weights, one for each trait that slicing has to get right."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    Ministral3Config,
    Ministral3ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
)

from nas_llm.data import WindowSet
from nas_llm.models import DenseModel, adapter_for
from nas_llm.settings import ATTENTION_MODES
from nas_llm.space import Architecture, AttentionLayout, Genome

VOCABULARY = 96
LAYERS = 5
CHANNELS = 80

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "max_position_embeddings": 128,
}
_LLAMA: dict[str, Any] = {**_SIZES, "intermediate_size": CHANNELS}
_GEMMA3: dict[str, Any] = {
    **_LLAMA,
    "num_key_value_heads": 3,
    "head_dim": 16,
    "layer_types": ["sliding_attention", "full_attention"] * 2 + ["sliding_attention"],
    "query_pre_attn_scalar": 20,
}
_OPT: dict[str, Any] = {**_SIZES, "ffn_dim": CHANNELS, "pad_token_id": 1}

_CASES: dict[str, tuple[PretrainedConfig, type[PreTrainedModel]]] = {
    "llama-gqa-tied": (
        LlamaConfig(**_LLAMA, num_key_value_heads=3, head_dim=8, tie_word_embeddings=True),
        LlamaForCausalLM,
    ),
    "llama-gqa-untied": (LlamaConfig(**_LLAMA, num_key_value_heads=2), LlamaForCausalLM),
    "llama-mha-biases": (
        LlamaConfig(**_LLAMA, num_key_value_heads=6, attention_bias=True, mlp_bias=True),
        LlamaForCausalLM,
    ),
    "llama-mqa": (LlamaConfig(**_LLAMA, num_key_value_heads=1, head_dim=8, attention_bias=True), LlamaForCausalLM),
    "llama-wide-heads": (LlamaConfig(**_LLAMA, num_key_value_heads=3, head_dim=16), LlamaForCausalLM),
    "mistral": (MistralConfig(**_LLAMA, num_key_value_heads=2, sliding_window=None), MistralForCausalLM),
    "qwen2": (Qwen2Config(**_LLAMA, num_key_value_heads=3), Qwen2ForCausalLM),
    "qwen3": (Qwen3Config(**_LLAMA, num_key_value_heads=2, head_dim=16), Qwen3ForCausalLM),
    "smollm3": (
        SmolLM3Config(
            **_LLAMA, num_key_value_heads=3, no_rope_layer_interval=2, tie_word_embeddings=True, pad_token_id=0
        ),
        SmolLM3ForCausalLM,
    ),
    "granite": (
        GraniteConfig(
            **_LLAMA,
            num_key_value_heads=3,
            embedding_multiplier=3.0,
            attention_multiplier=0.2,
            residual_multiplier=0.4,
            logits_scaling=2.0,
        ),
        GraniteForCausalLM,
    ),
    "ministral3": (Ministral3Config(**_LLAMA, num_key_value_heads=3, head_dim=16), Ministral3ForCausalLM),
    "gemma3": (Gemma3TextConfig(**_GEMMA3, sliding_window=64), Gemma3ForCausalLM),
    "opt": (OPTConfig(**_OPT), OPTForCausalLM),
    "opt-post-norm": (
        OPTConfig(**_OPT, do_layer_norm_before=False, word_embed_proj_dim=32),
        OPTForCausalLM,
    ),
    "opt-no-bias": (OPTConfig(**_OPT, enable_bias=False, layer_norm_elementwise_affine=False), OPTForCausalLM),
}
DENSE_CASES = tuple(_CASES)
# Models whose windows are shorter than the texts of tests: only whole models run on these.
_SLIDING: dict[str, tuple[PretrainedConfig, type[PreTrainedModel]]] = {
    "mistral-sliding": (MistralConfig(**_LLAMA, num_key_value_heads=2, sliding_window=6), MistralForCausalLM),
    "qwen2-sliding": (
        Qwen2Config(**_LLAMA, num_key_value_heads=3, use_sliding_window=True, sliding_window=6, max_window_layers=2),
        Qwen2ForCausalLM,
    ),
    "gemma3-sliding": (Gemma3TextConfig(**_GEMMA3, sliding_window=6), Gemma3ForCausalLM),
}
SLIDING_CASES = tuple(_SLIDING)
MODES = ATTENTION_MODES
# Each case with each attention mode that is defined for it, and those modes that cut heads.
CASE_MODES = tuple(
    (case, mode)
    for case, (config, _) in _CASES.items()
    for mode in (MODES[:1] if adapter_for(config.model_type).architecture(config).whole_heads else MODES)
)
CUT_CASE_MODES = tuple((case, mode) for case, mode in CASE_MODES if mode != MODES[0])
CUT_CASES = tuple(dict.fromkeys(case for case, _ in CUT_CASE_MODES))


def dense_model(case: str, seed: int = 0) -> DenseModel:
    """A dense model of one of the cases above, weights large enough that every unit matters."""
    config, kind = (_CASES | _SLIDING)[case]
    model = kind._from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            # Norms off one and off zero, so that a norm in the wrong place is seen.
            parameter.data.uniform_(0.5, 1.5, generator=generator)
        else:
            parameter.data.normal_(0.0, 0.15, generator=generator)
    adapter = adapter_for(config.model_type)
    return DenseModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        adapter=adapter,
        architecture=adapter.architecture(config),
        source=case,
        revision=f"random-{case}-{seed}",
    )


def random_genome(dense: DenseModel, seed: int, mode: str = "kv_group") -> Genome:
    """Masks that keep about 60 %, with removed sublayers at the front, in the middle and together.

    Masks inside heads leave some KV groups whole or out, and differ from head to head.
    """
    rng = np.random.default_rng(seed)
    shape = dense.architecture
    attn = rng.random((shape.num_layers, shape.num_kv_heads)) < 0.6
    mlp = rng.random((shape.num_layers, shape.intermediate_size)) < 0.6
    for mask in (attn, mlp):
        mask[rng.integers(shape.num_layers)] = False
        mask[rng.integers(shape.num_layers)] = True
    if seed % 3 == 0:
        attn[0] = False
    if seed % 4 == 0:
        attn[2] = mlp[2] = False
    if mode == "kv_group":
        return Genome(attn, mlp)
    layout = shape.attention_layout(mode)
    rows = [_random_row(layout, groups, rng) for groups in attn]
    return Genome(np.stack(rows), mlp, layout)


def cut_heads(architecture: Architecture, genome: Genome, mode: str, seed: int = 0) -> Genome:
    """The same KV groups and FFN channels, with heads that keep some of their channels, in every layer as many."""
    layout, rng = architecture.attention_layout(mode), np.random.default_rng(seed)
    rows = [_random_row(layout, groups, rng) for groups in genome.attn_mask]
    return Genome(np.stack(rows), genome.mlp_mask, layout)


def _random_row(layout: AttentionLayout, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    units = []
    for axis in layout.axes:
        kept = np.zeros((layout.num_kv_heads, axis.units), dtype=bool)
        width = int(rng.choice([width for width in range(2, layout.head_dim + 1, 2)]))
        for head in np.flatnonzero(groups):
            for span, count in zip(axis.spans, axis.counts(width), strict=True):
                places = np.arange(axis.units)[span]
                kept[head, rng.choice(places, size=count, replace=False)] = True
        units.append(kept)
    return layout.row(tuple(units))


def random_windows(count: int = 3, length: int = 24, seed: int = 0, name: str = "windows") -> WindowSet:
    """Windows of random tokens."""
    rng = np.random.default_rng(seed)
    return WindowSet(tokens=rng.integers(3, VOCABULARY, (count, length)), name=name)
