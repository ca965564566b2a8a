"""Exports: one format a file."""

from nas_llm.export._card import Provenance, model_card
from nas_llm.export._decilm import export_decilm
from nas_llm.export._expressible import Problem, expressible
from nas_llm.export._gguf import export_gguf
from nas_llm.export._gguf_types import GGUF_TYPES, GgufType
from nas_llm.export._hf import GENOME_FILE, PROVENANCE_FILE, export_hf
from nas_llm.export._servable import Hindrance, Servability, servable

FORMATS = ("hf", "gguf", "decilm")

__all__ = [
    "FORMATS",
    "GENOME_FILE",
    "GGUF_TYPES",
    "PROVENANCE_FILE",
    "GgufType",
    "Hindrance",
    "Problem",
    "Provenance",
    "Servability",
    "export_decilm",
    "export_gguf",
    "export_hf",
    "expressible",
    "model_card",
    "servable",
]
