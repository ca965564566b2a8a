"""Exports: one format a file. Only ``hf`` so far."""

from nas_llm.export._card import Provenance, model_card
from nas_llm.export._hf import GENOME_FILE, PROVENANCE_FILE, export_hf

FORMATS = ("hf",)

__all__ = ["FORMATS", "GENOME_FILE", "PROVENANCE_FILE", "Provenance", "export_hf", "model_card"]
