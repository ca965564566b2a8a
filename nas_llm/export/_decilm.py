"""DeciLM directories, which vLLM and SGLang serve with blocks of different sizes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import PreTrainedModel

from nas_llm.export._card import CARD_FILE, Provenance, model_card
from nas_llm.export._expressible import refuse_inexpressible
from nas_llm.export._hf import GENOME_FILE
from nas_llm.export._padding import pad_heads as padded_subnet
from nas_llm.export._staging import staged_directory
from nas_llm.models import PROVENANCE_FILE, DenseModel
from nas_llm.space import Architecture, Genome

DECILM_LOADS = "vllm serve DIRECTORY --trust-remote-code"
"""How to load such a directory."""

_CONFIGURATION = "configuration_decilm"
# Widths given as ``ffn_mult`` are rounded up to a multiple of this.
FFN_MULT_GRAIN = 256
# Keys of the dense configuration that mean the same in the export.
_KEPT = (
    "attention_dropout",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "num_attention_heads",
    "num_hidden_layers",
    "pad_token_id",
    "rms_norm_eps",
    "vocab_size",
)


def export_decilm(
    subnet: PreTrainedModel,
    dense: DenseModel,
    directory: Path,
    *,
    provenance: Provenance,
    pad: bool = False,
    force: bool = False,
) -> Path:
    """Write a subnet as ``DeciLMForCausalLM``: safetensors, configuration with ``block_configs``, tokenizer.

    The directory appears whole or not at all. transformers itself reads its configuration, but has no such model.

    Args:
        subnet: What :func:`nas_llm.subnet.build_subnet` returned.
        dense: The model that it inherits from.
        directory: Where to; its parents are created.
        provenance: For ``nas_llm.json``; its genome is the subnet's.
        pad: Fill heads that keep some of their channels only up with zeros; a card then says what that costs.
        force: Replace an earlier export.

    Returns:
        The directory.

    Raises:
        ExportError: If the format has no form for the subnet, the directory exists and ``force`` is not given, or it
            cannot be written.
    """
    with staged_directory(directory, force=force) as staging:
        write_decilm(subnet, dense, staging, provenance=provenance, pad=pad)
    return directory


def write_decilm(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, pad: bool = False
) -> None:
    """Write the files of :func:`export_decilm` straight into a directory, which is made if need be.

    Raises:
        ExportError: If the format has no form for the subnet.
        OSError: If the disk does not take it.
    """
    genome = provenance.genome
    refuse_inexpressible("decilm", genome, dense.model.config, pad=pad)
    padded = padded_subnet(subnet, dense, genome) if genome.cut_layers.size else None
    subnet = subnet if padded is None else padded.model
    directory.mkdir(exist_ok=True)
    weight_bytes = _save_weights(subnet, directory / "model.safetensors")
    (directory / "config.json").write_text(_json(_configuration(subnet, dense, genome)), encoding="utf-8")
    source = resources.files(__package__).joinpath(f"{_CONFIGURATION}.py").read_text(encoding="utf-8")
    (directory / f"{_CONFIGURATION}.py").write_text(source, encoding="utf-8")
    if subnet.generation_config is not None:
        subnet.generation_config.save_pretrained(directory)
    if dense.tokenizer is not None:
        dense.tokenizer.save_pretrained(directory)
    (directory / GENOME_FILE).write_bytes(genome.to_bytes())
    if padded is not None:
        padding = padded.padding(
            "decilm",
            genome,
            dense,
            weight_bytes=weight_bytes,
            zero_bytes=sum(padded.zeros.values()) * subnet.dtype.itemsize,
            sequence_length=provenance.sequence_length,
        )
        provenance = replace(provenance, padding=padding)
        card = model_card(provenance, remote_code=True, loads=DECILM_LOADS)
        (directory / CARD_FILE).write_text(card, encoding="utf-8")
    (directory / PROVENANCE_FILE).write_text(_json(provenance.to_dict()), encoding="utf-8")


def block_configs(genome: Genome, architecture: Architecture) -> list[dict[str, Any]]:
    """One entry a layer.

    vLLM takes any FFN width, but where there is ``ffn_mult`` that wins and is rounded up to 256; SGLang knows only
    ``ffn_mult``. So it stands where it says exactly what ``intermediate_size`` does.

    Args:
        genome: The masks; a present attention has all of its KV groups.
        architecture: The dense model's.
    """
    return [
        {
            "attention": {
                "no_op": not groups,
                "n_heads_in_group": architecture.heads_per_group if groups else None,
                "replace_with_linear": False,
            },
            "ffn": {
                "no_op": not channels,
                "intermediate_size": channels or None,
                **_multiplier(channels, architecture.hidden_size),
                "replace_with_linear": False,
            },
        }
        for groups, channels in zip(genome.kv_groups.tolist(), genome.ffn_channels.tolist(), strict=True)
    ]


def _multiplier(channels: int, hidden_size: int) -> dict[str, float]:
    if not channels or channels % FFN_MULT_GRAIN:
        return {}
    # Readers take two thirds of it.
    return {"ffn_mult": 1.5 * channels / hidden_size}


def _configuration(subnet: PreTrainedModel, dense: DenseModel, genome: Genome) -> dict[str, Any]:
    config, architecture = dense.model.config, dense.architecture
    values = config.to_dict()
    scaling = {key: value for key, value in config.rope_parameters.items() if key != "rope_theta"}
    return {
        "architectures": ["DeciLMForCausalLM"],
        "model_type": "nemotron-nas",
        "auto_map": {"AutoConfig": f"{_CONFIGURATION}.DeciLMConfig"},
        **{key: values[key] for key in _KEPT if key in values},
        # As the weights are, whatever the dense configuration says of them.
        "attention_bias": architecture.qkv_bias,
        "mlp_bias": architecture.mlp_bias,
        "tie_word_embeddings": architecture.tied_embeddings,
        "head_dim": architecture.head_dim,
        "num_key_value_heads": architecture.num_kv_heads,
        "intermediate_size": architecture.intermediate_size,
        "max_position_embeddings": architecture.max_positions,
        # Read by runtimes old and new; transformers turns it into rope_parameters.
        "rope_theta": config.rope_parameters["rope_theta"],
        "rope_scaling": None if scaling["rope_type"] == "default" else scaling,
        "dtype": str(subnet.dtype).removeprefix("torch."),
        "torch_dtype": str(subnet.dtype).removeprefix("torch."),
        "use_cache": True,
        "block_configs": block_configs(genome, architecture),
    }


def _save_weights(subnet: PreTrainedModel, path: Path) -> int:
    """Save them; returns their bytes."""
    state = {name: weight.contiguous() for name, weight in subnet.state_dict().items()}
    if subnet.lm_head.weight is subnet.model.embed_tokens.weight:
        # The loader ties it again.
        del state["lm_head.weight"]
    save_file(state, path, metadata={"format": "pt"})
    return sum(weight.nbytes for weight in state.values())


def _json(values: Any) -> str:
    return json.dumps(values, indent=2) + "\n"
