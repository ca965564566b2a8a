"""An export format: the plain weights as safetensors, and beside them the sizes of each layer as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from nas_llm.export import Provenance, WriteSettings, register_format
from nas_llm.models import DenseModel


@register_format(
    "shapes",
    summary="weights and the sizes of each layer, for a runtime of your own",
    dtypes=("float32", "bfloat16"),
    loads="safetensors.torch.load_file('DIRECTORY/weights.safetensors'), sizes in DIRECTORY/shapes.json",
    suffixes=(".safetensors",),
)
def write_shapes(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, settings: WriteSettings
) -> None:
    """One file for the tensors, one for what a runtime has to know before it reads them."""
    directory.mkdir()
    dtype = getattr(torch, settings.dtype)
    tensors = {name: value.detach().to(dtype).clone() for name, value in subnet.named_parameters()}
    save_file(tensors, directory / "weights.safetensors")
    genome = provenance.genome
    layers = [
        {"kv_groups": int(groups), "ffn_channels": int(channels)}
        for groups, channels in zip(genome.kv_groups, genome.ffn_channels, strict=True)
    ]
    sizes = {"point": provenance.point, "head_dim": dense.architecture.head_dim, "layers": layers}
    (directory / "shapes.json").write_text(json.dumps(sizes, indent=2) + "\n", encoding="utf-8")
