"""Tensors of a file whose layers are alike, in the architecture that llama.cpp has for the family."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import gguf
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.export._hosts import Alike
from nas_llm.export.gguf._layers import interleaved


def alike_tensors(host: Alike, model: PreTrainedModel, head_dim: int) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of the file; nothing is computed before it is asked for.

    Args:
        host: What the family is to llama.cpp.
        model: A subnet whose layers are alike.
        head_dim: Width of one head.
    """
    names = gguf.get_tensor_name_map(host.architecture, model.config.num_hidden_layers)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, weight in model.state_dict().items():
        if tied and name.startswith("lm_head."):
            continue
        module = name.rpartition(".")[0]
        if host.interleave and module.endswith(("q_proj", "k_proj")):
            weight = interleaved(weight, head_dim)
        if host.centred and module.endswith("norm"):
            weight = weight + 1
        yield _renamed(names, name), weight


def renamed(host: Alike, counts: Mapping[str, int], layers: int) -> dict[str, int]:
    """Numbers by what the file calls their weights.

    Args:
        host: What the family is to llama.cpp.
        counts: By the names of transformers.
        layers: How many blocks there are.
    """
    names = gguf.get_tensor_name_map(host.architecture, layers)
    return {_renamed(names, name): count for name, count in counts.items()}


def _renamed(names: gguf.TensorNameMap, name: str) -> str:
    found = names.get_name(name, (".weight", ".bias"))
    assert found is not None, name
    return found
