"""Exports: one format a file, one entry each in the registry."""

from nas_llm.export._card import Provenance, model_card
from nas_llm.export._formats import EXPORT_FORMATS, ExportFormat, WriteSettings, export_format
from nas_llm.export._hf import (
    GENOME_FILE,
    HF_TYPES,
    MAX_SHARD_SIZE,
    PROVENANCE_FILE,
    cast_weights,
    export_hf,
    parse_size,
)
from nas_llm.export._staging import staged_directory

FORMATS = tuple(EXPORT_FORMATS)

__all__ = [
    "EXPORT_FORMATS",
    "FORMATS",
    "GENOME_FILE",
    "HF_TYPES",
    "MAX_SHARD_SIZE",
    "PROVENANCE_FILE",
    "ExportFormat",
    "Provenance",
    "WriteSettings",
    "cast_weights",
    "export_format",
    "export_hf",
    "model_card",
    "parse_size",
    "staged_directory",
]
