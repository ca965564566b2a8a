"""Sizes and MACs of a model as it lies on disk, counted and not computed."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nas_llm.models import (
    hold_in_memory,
    hub_options,
    known_adapter,
    load_tokenizer,
    load_whole,
    locate_model,
    quiet_transformers,
    read_config,
)
from nas_llm.settings import EvaluationDefaults

_DTYPE: torch.dtype = getattr(torch, EvaluationDefaults.dtype)


def load_any(
    source: str,
    *,
    revision: str | None = None,
    dtype: torch.dtype | None = _DTYPE,
    where: str | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a dense model or an export for measuring.

    Exports load through the classes of this package; code that a model directory carries is never run.

    Args:
        source: Packaged name, hub name, local directory or ``.gguf`` file.
        revision: Hub revision, for hub names only.
        dtype: Arithmetic; None = as it was saved.
        where: What the source stands for, if that was worked out before (:func:`nas_llm.models.resolve_model`).

    Raises:
        ModelError: If it cannot be found or read, or not whole.
    """
    where = where or locate_model(source)
    model = load_weights(source, where, dtype=dtype, revision=revision)
    with quiet_transformers():
        return model, load_tokenizer(where, source, **hub_options(where, revision))


def load_weights(source: str, where: str, *, dtype: torch.dtype | None, revision: str | None = None) -> PreTrainedModel:
    """The model alone, as :func:`load_any` loads it.

    Args:
        source: What the user named.
        where: What it stands for: a directory or a hub name.
        dtype: Arithmetic; None = as it was saved.
        revision: Hub revision, for hub names only.

    Raises:
        ModelError: If it cannot be found or read, or not whole.
    """
    with quiet_transformers():
        config = read_config(source, where, revision=revision)
        model = load_whole(where, source, config, dtype=dtype, **hub_options(where, revision))
    hold_in_memory(model)
    return model


def count_block_params(model: PreTrainedModel) -> int:
    """Parameters inside decoder blocks, norms excluded."""
    adapter = known_adapter(model.config.model_type)
    if adapter is not None:
        norms = adapter.names.norms
        return sum(
            parameter.numel()
            for block in adapter.layers(model)
            for name, parameter in block.named_parameters()
            if name.rpartition(".")[0] not in norms
        )
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if ".layers." in f".{name}" and "norm" not in name
    )


def count_macs_per_token(model: PreTrainedModel, length: int) -> int:
    """Multiply-accumulates per token of a prefill of ``length`` tokens, by torch's flop counter.

    Args:
        model: A causal LM; its attention is eager while it is counted, because the counter does not see into the
            fused kernel on every device.
        length: Tokens of the prefill.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            model(torch.zeros((1, length), dtype=torch.long, device=model.device), use_cache=False)
    finally:
        with suppress(ValueError):
            model.set_attn_implementation(before)
    return int(counter.get_total_flops()) // (2 * length)
