"""Exports of the packaged test model with every irregularity at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from exported import provenance

from nas_llm.export import export_hf
from nas_llm.models import load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet


def irregular_export(directory: Path, *, dtype: str = "float32") -> Path:
    """Differing widths, a block without attention, one without FFN, one without either."""
    dense = load_model("tiny-llama")
    shape, rng = dense.architecture, np.random.default_rng(0)
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = rng.random((shape.num_layers, shape.intermediate_size)) < 0.6
    attn[0] = attn[3] = mlp[2] = mlp[3] = False
    attn[1, 0] = False
    genome = Genome(attn, mlp)
    return export_hf(
        build_subnet(dense, genome),
        dense,
        directory,
        provenance=provenance(dense, genome),
        dtype=dtype,  # type: ignore[arg-type] # checked by the exporter
    )
