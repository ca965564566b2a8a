"""A subnet whose layers are all alike needs no modelling file: transformers' own class can hold it."""

from __future__ import annotations

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedModel

from nas_llm.export._padding import alike
from nas_llm.models import DenseModel
from nas_llm.space import Genome


def stock_model(subnet: PreTrainedModel, dense: DenseModel, genome: Genome) -> PreTrainedModel | None:
    """The same weights in the dense model's own class, if its configuration can say the subnet's sizes.

    Args:
        subnet: What :func:`nas_llm.subnet.build_subnet` returned.
        dense: The model that it inherits from.
        genome: The masks.

    Returns:
        A model that shares the subnet's tensors; None if layers differ, if any sublayer is missing, if heads keep some
        of their channels only (neither scale nor rotary frequencies are those of narrow heads), or if the class has no
        form for these sizes (e.g. OPT with fewer heads, whose head width follows from their number).
    """
    if not alike(genome) or genome.cut_layers.size:
        return None
    adapter, architecture, config = dense.adapter, dense.architecture, dense.model.config
    values = {
        key: value
        for key, value in config.to_dict().items()
        if key not in {"architectures", "quantization_config", "auto_map", "_name_or_path"}
    }
    values |= adapter.global_overrides(architecture)
    values |= adapter.attention_sizes(architecture, int(genome.kv_groups[0]))
    values |= adapter.mlp_sizes(int(genome.ffn_channels[0]))
    try:
        stock_config = type(config)(**values)
    except (StrictDataclassError, ValueError):
        # E.g. a hidden size that is no multiple of the number of heads left.
        return None
    stock_config._attn_implementation = config._attn_implementation
    with torch.device("meta"):
        stock: PreTrainedModel = type(dense.model)(stock_config)
    state = subnet.state_dict()
    expected = stock.state_dict()
    if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in state):
        return None
    stock.load_state_dict(state, assign=True)
    for name, buffer in subnet.named_buffers():
        owner, _, leaf = name.rpartition(".")
        setattr(stock.get_submodule(owner), leaf, buffer)
    stock.tie_weights()
    stock.generation_config = subnet.generation_config
    stock.eval().requires_grad_(False)
    return stock
