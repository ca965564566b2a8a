"""GGUF files, which llama.cpp and what is built on it run unmodified."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFWriter
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.errors import ExportError
from nas_llm.export._card import CARD_FILE, Provenance, model_card
from nas_llm.export._expressible import refuse_inexpressible
from nas_llm.export._hf import GENOME_FILE
from nas_llm.export._hosts import ALIKE, folding
from nas_llm.export._padding import filled, pad_layers
from nas_llm.export._padding import pad_heads as padded_subnet
from nas_llm.export._staging import staged_directory
from nas_llm.export.gguf._alike import alike_tensors, renamed
from nas_llm.export.gguf._layers import GgufBlock, is_uniform, plan_blocks, tensor_name, tensors
from nas_llm.export.gguf._tokenizer import tokenizer_fields
from nas_llm.export.gguf._types import GGUF_TYPES, GgufType, encode, file_type, tensor_type
from nas_llm.models import PROVENANCE_FILE, DenseModel

_F32 = np.dtype(np.float32)


def export_gguf(
    subnet: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    *,
    provenance: Provenance,
    dtype: GgufType = "f16",
    pad: bool = False,
    force: bool = False,
) -> Path:
    """Write a subnet as ``model-<dtype>.gguf``, with its genome and ``nas_llm.json`` beside it.

    The architecture is ``deci``, whose head counts and FFN widths may differ from block to block, or plain ``llama``
    if all blocks are alike. Removed sublayers cost nothing but where llama.cpp needs a stand-in of zero weights
    (:func:`nas_llm.export.gguf._layers.plan_blocks`). The directory appears whole or not at all.

    Args:
        subnet: What :func:`nas_llm.subnet.build_subnet` returned.
        dense: The model that it inherits from; a ``.gguf`` source hands its tokenizer on as it is.
        directory: Where to; its parents are created.
        provenance: For the metadata; its genome is the subnet's.
        dtype: Type of the matrices. Under ``q8_0`` a matrix whose rows are no multiple of 32 is F16.
        pad: Fill up with zeros what llama.cpp has no form for: parts of heads, or layers that differ; a card then says
            what that costs.
        force: Replace an earlier export.

    Returns:
        The file.

    Raises:
        ExportError: If llama.cpp has no form for the subnet or its tokenizer, the directory exists and ``force`` is
            not given, or it cannot be written.
    """
    with staged_directory(directory, force=force) as staging:
        write_gguf(subnet, dense, staging, provenance=provenance, dtype=dtype, pad=pad)
    return directory / _file_name(dtype)


def write_gguf(
    subnet: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    *,
    provenance: Provenance,
    dtype: GgufType,
    pad: bool = False,
) -> None:
    """Write the files of :func:`export_gguf` straight into a directory, which is made if need be.

    Raises:
        ExportError: If llama.cpp has no form for the subnet or its tokenizer.
        OSError: If the disk does not take it.
    """
    if dtype not in GGUF_TYPES:
        raise ExportError(f"gguf cannot be written in type '{dtype}'; types are {', '.join(GGUF_TYPES)}")
    genome, length = provenance.genome, provenance.sequence_length
    refuse_inexpressible("gguf", genome, dense.model.config, pad=pad)
    vocabulary = tokenizer_fields(dense)
    padded = padded_subnet(subnet, dense, genome) if genome.cut_layers.size else None
    host = ALIKE.get(dense.model.config.model_type)
    if host is not None:
        target = filled(genome)
        padded = pad_layers(subnet, dense, genome, target) if target is not genome else None
    model, written = (subnet, genome) if padded is None else (padded.model, padded.genome)
    blocks, head_dim = plan_blocks(written, dense.architecture), dense.architecture.head_dim
    directory.mkdir(exist_ok=True)
    name = ("llama" if is_uniform(blocks) else "deci") if host is None else host.name
    writer = GGUFWriter(directory / _file_name(dtype), name)
    _describe(writer, dense, provenance, dtype, padded="" if padded is None else "layers" if host else "heads")
    _size(writer, dense, blocks)
    config = dense.model.config
    if host is None:
        writer.add_rope_dimension_count(head_dim)
        writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    else:
        host.describe(writer, config)
    for field in vocabulary:
        writer.add_key_value(field.key, field.value, field.kind, field.item_kind)
    zeros = {} if padded is None else padded.zeros
    zeros = _zeros(zeros, blocks, dense.block_prefix) if host is None else renamed(host, zeros, len(blocks))

    def held() -> Iterator[tuple[str, Tensor]]:
        return tensors(model, blocks, head_dim) if host is None else alike_tensors(host, model, head_dim)

    weight_bytes, zero_bytes = _weigh(writer, held, dtype, zeros)
    (directory / GENOME_FILE).write_bytes(genome.to_bytes())
    if padded is not None:
        padding = padded.padding(
            "gguf", genome, dense, weight_bytes=weight_bytes, zero_bytes=zero_bytes, sequence_length=length
        )
        provenance = replace(provenance, padding=padding)
        card = model_card(provenance, remote_code=False, loads=f"llama-cli -m DIRECTORY/{_file_name(dtype)}")
        (directory / CARD_FILE).write_text(card, encoding="utf-8")
    (directory / PROVENANCE_FILE).write_text(json.dumps(provenance.to_dict(), indent=2) + "\n", encoding="utf-8")


def _file_name(dtype: GgufType) -> str:
    return f"model-{dtype}.gguf"


def _describe(writer: GGUFWriter, dense: DenseModel, provenance: Provenance, dtype: GgufType, *, padded: str) -> None:
    ratio = provenance.cost.inheriting_ratio
    base = _public_name(provenance.base_model)
    writer.add_type("model")
    writer.add_name(f"{base} {provenance.point} at {ratio:.3f}")
    filled_up = f", {padded} padded with zeros" if padded else ""
    writer.add_description(
        f"subnet of {base}, inheriting ratio {ratio:.3f}{filled_up}, genome {provenance.genome.digest()}, "
        "found by nas_llm"
    )
    writer.add_file_type(file_type(dtype))
    writer.add_quantization_version(2)
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base)
    writer.add_base_model_version(0, provenance.base_revision)
    writer.add_string("nas_llm.genome", provenance.genome.digest())
    writer.add_string("nas_llm.problem", provenance.problem)
    writer.add_string("nas_llm.weights", provenance.weights)
    writer.add_float32("nas_llm.inheriting_ratio", ratio)


def _size(writer: GGUFWriter, dense: DenseModel, blocks: list[GgufBlock]) -> None:
    architecture, config = dense.architecture, dense.model.config
    writer.add_block_count(len(blocks))
    # Where windows slide and llama.cpp's architecture knows none, it is right as far as one window.
    windows = config.model_type in ALIKE and ALIKE[config.model_type].windows
    writer.add_context_length(config.max_position_embeddings if windows else architecture.max_positions)
    writer.add_embedding_length(architecture.hidden_size)
    writer.add_vocab_size(architecture.vocab_size)
    alike = is_uniform(blocks)
    writer.add_head_count(blocks[0].heads if alike else [block.heads for block in blocks])
    writer.add_head_count_kv(blocks[0].kv_heads if alike else [block.kv_heads for block in blocks])
    writer.add_feed_forward_length(blocks[0].channels if alike else [block.channels for block in blocks])
    writer.add_key_length(architecture.head_dim)
    writer.add_value_length(architecture.head_dim)
    writer.add_layer_norm_rms_eps(float(config.rms_norm_eps) * folding(config, architecture.head_dim).eps)


def _zeros(zeros: Mapping[str, int], blocks: list[GgufBlock], prefix: str) -> dict[str, int]:
    """How many zeros were put into tensors, by the names of the file."""
    indices = {str(block.layer): index for index, block in enumerate(blocks)}
    parts = {name: name.removeprefix(f"{prefix}.").split(".", 1) for name in zeros}
    return {tensor_name(indices[layer], rest): zeros[name] for name, (layer, rest) in parts.items()}


def _weigh(
    writer: GGUFWriter,
    held: Callable[[], Iterator[tuple[str, Tensor]]],
    dtype: GgufType,
    zeros: Mapping[str, int],
) -> tuple[int, int]:
    """Write all tensors; returns their bytes, and those of the zeros among them."""
    kinds, weight_bytes, zero_bytes = [], 0, 0
    # Types and sizes go before all weights; the weights then pass one by one, so that a second model is never held.
    for name, weight in held():
        kind = tensor_type(name, weight, dtype)
        kinds.append(kind)
        block_weights, block_bytes = GGML_QUANT_SIZES[kind]
        size = weight.numel() // block_weights * block_bytes
        writer.add_tensor_info(name, tuple(weight.shape), _F32, size, kind)
        weight_bytes += size
        zero_bytes += zeros.get(name, 0) * block_bytes // block_weights
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for (_, weight), kind in zip(held(), kinds, strict=True):
            writer.write_tensor_data(encode(weight, kind))
    finally:
        writer.close()
    return weight_bytes, zero_bytes


def _public_name(source: str) -> str:
    """A model's name without the folders of the machine that it lay on."""
    path = Path(source)
    if path.suffix == ".gguf":
        return path.stem
    return path.name if path.is_absolute() or source.startswith((".", "~")) else source
