"""Hugging Face directories that load without nas_llm."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Literal, get_args

import torch
from transformers import PreTrainedModel

from nas_llm.errors import ExportError
from nas_llm.export._card import CARD_FILE, Provenance, model_card
from nas_llm.export._staging import staged_directory
from nas_llm.export._stock import stock_model
from nas_llm.models import PROVENANCE_FILE, DenseModel, on_device, quiet_transformers
from nas_llm.settings import ExportDefaults
from nas_llm.sizes import size_in_bytes

GENOME_FILE = "genome.bin"
HfType = Literal["keep", "float32", "bfloat16", "float16"]
HF_TYPES: tuple[str, ...] = get_args(HfType)
MAX_SHARD_SIZE = ExportDefaults.max_shard_size


def export_hf(
    subnet: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    *,
    provenance: Provenance,
    dtype: HfType = "keep",
    max_shard_size: str = MAX_SHARD_SIZE,
    force: bool = False,
) -> Path:
    """Write a subnet as safetensors, configuration, tokenizer, generation settings and model card.

    A subnet whose layers are all alike becomes a model of the dense model's own class and needs no code beside
    transformers; any other carries one small modelling file. The directory appears whole or not at all.

    Args:
        subnet: What :func:`nas_llm.subnet.build_subnet` returned; left as it is.
        dense: The model that it inherits from.
        directory: Where to; its parents are created.
        provenance: For the card and ``nas_llm.json``; its genome is the subnet's.
        dtype: Type of the weights; ``keep`` = the dense checkpoint's own.
        max_shard_size: Largest weight file, e.g. ``5GB``; larger models become several files.
        force: Replace an earlier export.

    Returns:
        The directory.

    Raises:
        ExportError: If the directory exists and ``force`` is not given, it cannot be written, or an argument is not
            usable.
    """
    with staged_directory(directory, force=force) as staging:
        write_hf(subnet, dense, staging, provenance=provenance, dtype=dtype, max_shard_size=max_shard_size)
    return directory


def write_hf(
    subnet: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    *,
    provenance: Provenance,
    dtype: str,
    max_shard_size: str,
) -> None:
    """Write the files of :func:`export_hf` straight into a directory, which is made if need be.

    Raises:
        ExportError: If an argument is not usable.
        OSError: If the disk does not take it.
    """
    if dtype not in HF_TYPES:
        raise ExportError(f"unknown dtype '{dtype}' for hf; take {', '.join(HF_TYPES)}")
    shard_bytes = parse_size(max_shard_size)
    stock = stock_model(subnet, dense, provenance.genome)
    model = cast_weights(stock or subnet, dtype)
    directory.mkdir(exist_ok=True)
    _write(model, dense, directory, provenance, stock=stock is not None, shard_bytes=shard_bytes)


def cast_weights(model: PreTrainedModel, dtype: str) -> PreTrainedModel:
    """The model itself under ``keep`` or in its own type, else a copy with weights of another type."""
    wanted = model.dtype if dtype == "keep" else getattr(torch, dtype)
    if wanted == model.dtype:
        return model
    return on_device(copy.deepcopy(model), model.device, wanted)


def parse_size(text: str) -> int:
    """``5GB``, ``200MB`` or ``100000`` as bytes.

    Raises:
        ExportError: If it is none of these, or zero.
    """
    size = size_in_bytes(text)
    if size < 1:
        raise ExportError(f"max-shard-size '{text}' is no size; write e.g. 5GB or 200MB")
    return size


def _write(
    model: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    provenance: Provenance,
    *,
    stock: bool,
    shard_bytes: int,
) -> None:
    config = model.config
    config.architectures = [type(model).__name__]
    if not stock:
        model_type = dense.model.config.model_type
        module = f"modeling_nas_{model_type}"
        classes = {"AutoConfig": type(config), **dense.adapter.auto_classes(model_type)}
        config.auto_map = {name: f"{module}.{kind.__name__}" for name, kind in classes.items()}
        (directory / f"{module}.py").write_text(dense.adapter.modeling_source(model_type), encoding="utf-8")
    with quiet_transformers():
        model.save_pretrained(directory, max_shard_size=shard_bytes)
    if dense.tokenizer is not None:
        dense.tokenizer.save_pretrained(directory)
    (directory / GENOME_FILE).write_bytes(provenance.genome.to_bytes())
    (directory / PROVENANCE_FILE).write_text(json.dumps(provenance.to_dict(), indent=2) + "\n", encoding="utf-8")
    (directory / CARD_FILE).write_text(model_card(provenance, remote_code=not stock), encoding="utf-8")
