"""A subnet as a real, smaller transformers model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.models import DenseModel
from nas_llm.space import Genome

BlockEdit = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]


def build_subnet(dense: DenseModel, genome: Genome, *, edit: BlockEdit | None = None) -> PreTrainedModel:
    """Slice a dense model down to what a genome inherits.

    Args:
        dense: The model to inherit from; untouched.
        genome: The masks.
        edit: Called with each layer's index and sliced state dict; returns the one to use (reconstruction).

    Returns:
        A model of the family's subnet class on the CPU in the dense model's dtype, in evaluation mode.
    """
    adapter, architecture = dense.adapter, dense.architecture
    config = adapter.subnet_config(dense.model.config, genome)
    with torch.device("meta"):
        subnet: PreTrainedModel = adapter.modeling(dense.model.config.model_type).MODEL_CLASS(config)
    prefixes = {id(layer): name for name, layer in dense.model.named_modules()}
    state: dict[str, Tensor] = {}
    blocks = adapter.layers(dense.model)
    for layer, block in enumerate(blocks):
        sliced = adapter.slice_block(architecture, block.state_dict(), genome.attn_mask[layer], genome.mlp_mask[layer])
        if edit is not None:
            sliced = edit(layer, sliced)
        state |= {f"{prefixes[id(block)]}.{key}": value.contiguous().clone() for key, value in sliced.items()}
    inside = tuple(f"{prefixes[id(block)]}." for block in blocks)
    state |= {key: value.clone() for key, value in dense.model.state_dict().items() if not key.startswith(inside)}
    subnet.load_state_dict(state, assign=True)
    for name, buffer in dense.model.named_buffers():
        # Rotary tables are not part of a state dict; the meta model has none to compute them from.
        owner, _, leaf = name.rpartition(".")
        setattr(subnet.get_submodule(owner), leaf, buffer.clone())
    subnet.tie_weights()
    subnet.generation_config = dense.model.generation_config
    subnet.eval().requires_grad_(False)
    return subnet
