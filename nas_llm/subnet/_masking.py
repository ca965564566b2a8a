"""The dense model with omitted units zeroed: slower than a slice, and the oracle for it."""

from __future__ import annotations

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from nas_llm.models import DenseModel
from nas_llm.space import Genome


def masked_copy(dense: DenseModel, genome: Genome) -> PreTrainedModel:
    """A copy of the dense model in which omitted units contribute nothing; same shapes, same cost as dense.

    The output columns of omitted units become zero, and the rows of q of channels that heads do not keep; a removed
    sublayer loses its output bias too.
    """
    model: PreTrainedModel = copy.deepcopy(dense.model)
    names, architecture = dense.adapter.names, dense.architecture
    for layer, block in enumerate(dense.adapter.layers(model)):
        qk, vo = architecture.head_channels(genome.attn_mask[layer])
        # A channel of q that is zero adds nothing to any score.
        queries = block.get_submodule(names.q)
        assert isinstance(queries, nn.Linear)
        omitted = torch.from_numpy(~architecture.of_query_heads(qk))
        queries.weight.data[omitted] = 0.0
        if queries.bias is not None:
            queries.bias.data[omitted] = 0.0
        heads = architecture.of_query_heads(vo)
        for name, mask in ((names.o, heads), (names.fc2, genome.mlp_mask[layer])):
            linear = block.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            linear.weight.data[:, torch.from_numpy(~mask)] = 0.0
            if not mask.any() and linear.bias is not None:
                linear.bias.data.zero_()
    return model
