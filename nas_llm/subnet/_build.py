"""A subnet as a real, smaller transformers model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.models import DenseModel
from nas_llm.space import Genome

BlockEdit = Callable[[int, dict[str, Tensor]], dict[str, Tensor]]


def build_subnet(
    dense: DenseModel,
    genome: Genome,
    *,
    edit: BlockEdit | None = None,
    dtype: torch.dtype | None = None,
    share_outside: bool = False,
) -> PreTrainedModel:
    """Slice a dense model down to what a genome inherits.

    Args:
        dense: The model to inherit from; untouched.
        genome: The masks.
        edit: Called with each layer's index and sliced state dict; returns the one to use (reconstruction).
        dtype: Type of the weights; None = the dense model's.
        share_outside: Do not copy embeddings, head and final norm where they have that type already, but leave them
            where they are, in the dense model; for a subnet that is only measured.

    Returns:
        A model of the family's subnet class on the CPU, in evaluation mode.
    """
    adapter, architecture = dense.adapter, dense.architecture
    config = adapter.subnet_config(dense.model.config, genome)
    with torch.device("meta"):
        subnet: PreTrainedModel = adapter.modeling(dense.model.config.model_type).MODEL_CLASS(config)
    prefix = dense.block_prefix

    def copied(weight: Tensor) -> Tensor:
        wanted = dtype if dtype is not None and weight.is_floating_point() else weight.dtype
        return weight.to(wanted, memory_format=torch.contiguous_format, copy=True)

    state: dict[str, Tensor] = {}
    for layer in range(architecture.num_layers):
        sliced = adapter.slice_block(
            architecture, dense.block_state(layer), genome.attn_mask[layer], genome.mlp_mask[layer]
        )
        if edit is not None:
            sliced = edit(layer, sliced)
        state |= {f"{prefix}.{layer}.{key}": copied(value) for key, value in sliced.items()}
    outside = {key: value for key, value in dense.model.state_dict().items() if not key.startswith(f"{prefix}.")}
    state |= {key: value.to(dtype or value.dtype) if share_outside else copied(value) for key, value in outside.items()}
    subnet.load_state_dict(state, assign=True)
    for name, buffer in dense.model.named_buffers():
        # Rotary tables are not part of a state dict; the meta model has none to compute them from.
        owner, _, leaf = name.rpartition(".")
        # Tables of some rotary types follow the longest text that has passed; a subnet begins as a loaded model does.
        first = getattr(dense.model.get_submodule(owner), f"original_{leaf}", buffer)
        setattr(subnet.get_submodule(owner), leaf, first.clone())
    subnet.tie_weights()
    subnet.generation_config = dense.model.generation_config
    subnet.eval().requires_grad_(False)
    return subnet
