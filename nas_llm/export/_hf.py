"""Hugging Face directories that load without nas_llm."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import PreTrainedModel

from nas_llm.export._card import Provenance, model_card
from nas_llm.export._staging import staged_directory
from nas_llm.models import DenseModel

GENOME_FILE = "genome.bin"
PROVENANCE_FILE = "nas_llm.json"


def export_hf(
    subnet: PreTrainedModel, dense: DenseModel, directory: Path, *, provenance: Provenance, force: bool = False
) -> Path:
    """Write a subnet as safetensors, configuration, modelling file, tokenizer and model card.

    The directory appears whole or not at all.

    Args:
        subnet: What :func:`nas_llm.subnet.build_subnet` returned.
        dense: The model that it inherits from.
        directory: Where to; its parents are created.
        provenance: For the card and ``nas_llm.json``.
        force: Replace an earlier export.

    Returns:
        The directory.

    Raises:
        ExportError: If the directory exists and ``force`` is not given, or it cannot be written.
    """
    with staged_directory(directory, force=force) as staging:
        _write(subnet, dense, staging, provenance)
    return directory


def _write(subnet: PreTrainedModel, dense: DenseModel, directory: Path, provenance: Provenance) -> None:
    model_type = dense.model.config.model_type
    module = f"modeling_nas_{model_type}"
    config = subnet.config
    config.architectures = [type(subnet).__name__]
    config.auto_map = {
        "AutoConfig": f"{module}.{type(config).__name__}",
        "AutoModelForCausalLM": f"{module}.{type(subnet).__name__}",
    }
    subnet.save_pretrained(directory)
    (directory / f"{module}.py").write_text(dense.adapter.modeling_source(model_type), encoding="utf-8")
    if dense.tokenizer is not None:
        dense.tokenizer.save_pretrained(directory)
    (directory / GENOME_FILE).write_bytes(provenance.genome.to_bytes())
    (directory / PROVENANCE_FILE).write_text(json.dumps(provenance.to_dict(), indent=2) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(model_card(provenance, remote_code=True), encoding="utf-8")
