"""Sizes and MACs of a model as it lies on disk, counted and not computed."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel


def count_block_params(model: PreTrainedModel) -> int:
    """Parameters inside decoder blocks, norms excluded."""
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
