"""Irregular exports load through transformers' other Auto classes, too: the bare trunk, and a classifier over it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_models import dense_model, random_genome
from exported import provenance
from transformers import AutoModel

from nas_llm.export import export_hf
from nas_llm.models import DenseModel, load_model
from nas_llm.models.families import register_subnet_class
from nas_llm.subnet import build_subnet

STRANGER = Path(__file__).parents[1] / "support" / "stranger.py"
PREFIXES = {"llama": "NasLlama", "mistral": "NasMistral", "opt": "NasOPT"}


def _asked(directory: Path, scratch: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(STRANGER), str(directory), str(scratch), "trunk,classifier"],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env={**os.environ, "HF_MODULES_CACHE": str(scratch / "modules")},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _exported(dense: DenseModel, target: Path) -> Path:
    genome = random_genome(dense, 1)
    return export_hf(build_subnet(dense, genome), dense, target, provenance=provenance(dense, genome))


@pytest.mark.parametrize("case", ["packaged", "mistral", "opt", "opt-post-norm"])
def test_the_trunk_and_a_classifier_load_without_nas_llm(case: str, tmp_path: Path) -> None:
    dense = load_model("tiny-llama") if case == "packaged" else dense_model(case)
    found = _asked(_exported(dense, tmp_path / "model"), tmp_path)
    prefix = PREFIXES[dense.model.config.model_type]
    assert found["trunk"]["class"] == f"{prefix}Model"
    assert found["trunk"]["same"]
    assert found["trunk"].get("features", True)
    assert found["classifier"]["class"] == f"{prefix}ForSequenceClassification"
    assert found["classifier"]["losses"][-1] < found["classifier"]["losses"][0]
    assert found["classifier"]["same"]


def test_the_trunk_loads_through_the_classes_of_this_package(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    target = _exported(dense, tmp_path / "model")
    (target / "modeling_nas_llama.py").write_text("raise SystemExit('the code of an export was run')\n")
    register_subnet_class(str(target))
    found = AutoModel.from_pretrained(target).eval()
    ids = torch.arange(20)[None]
    subnet = build_subnet(dense, random_genome(dense, 1))
    assert torch.equal(found(ids).last_hidden_state, subnet.model(ids).last_hidden_state)
