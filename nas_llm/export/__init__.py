"""Exports: one format a file, one entry each in the registry."""

from nas_llm.export._card import Provenance, model_card
from nas_llm.export._decilm import export_decilm
from nas_llm.export._expressible import Problem, expressible
from nas_llm.export._families import COLUMNS, FamilyAbilities, abilities_table, family_abilities
from nas_llm.export._format import ExportFormat, Writer, WriteSettings
from nas_llm.export._formats import EXPORT_FORMATS, FORMATS, check_padding, export_format, register_format, servable
from nas_llm.export._hf import (
    GENOME_FILE,
    HF_TYPES,
    MAX_SHARD_SIZE,
    cast_weights,
    export_hf,
    parse_size,
)
from nas_llm.export._hosts import ALIKE_TYPES
from nas_llm.export._padding import PaddedSubnet, Padding, pad_heads, padded_layers
from nas_llm.export._servable import Hindrance, Servability
from nas_llm.export._staging import check_place, staged_directory
from nas_llm.export.gguf import GGUF_TYPES, GgufType, export_gguf
from nas_llm.models import PROVENANCE_FILE, read_provenance

__all__ = [
    "ALIKE_TYPES",
    "COLUMNS",
    "EXPORT_FORMATS",
    "FORMATS",
    "GENOME_FILE",
    "GGUF_TYPES",
    "HF_TYPES",
    "MAX_SHARD_SIZE",
    "PROVENANCE_FILE",
    "ExportFormat",
    "FamilyAbilities",
    "GgufType",
    "Hindrance",
    "PaddedSubnet",
    "Padding",
    "Problem",
    "Provenance",
    "Servability",
    "WriteSettings",
    "Writer",
    "abilities_table",
    "cast_weights",
    "check_padding",
    "check_place",
    "export_decilm",
    "export_format",
    "export_gguf",
    "export_hf",
    "expressible",
    "family_abilities",
    "model_card",
    "pad_heads",
    "padded_layers",
    "parse_size",
    "read_provenance",
    "register_format",
    "servable",
    "staged_directory",
]
