"""``nas_llm.load`` and ``nas_llm.load_genome``: one call, no questions, clear refusals."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import provenance

import nas_llm
from nas_llm.errors import ModelError, RunError
from nas_llm.export import export_hf
from nas_llm.models import load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet
from nas_llm.workflow import read_genomes


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dense = load_model("tiny-llama")
    shape = dense.architecture
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.ones((shape.num_layers, shape.intermediate_size), dtype=bool)
    attn[0] = mlp[1, :100] = False
    genome = Genome(attn, mlp)
    target = tmp_path_factory.mktemp("point") / "p03" / "hf"
    return export_hf(build_subnet(dense, genome), dense, target, provenance=provenance(dense, genome))


_ALONE = """
import sys, nas_llm
assert "torch" not in sys.modules
model, tokenizer = nas_llm.load(sys.argv[1])
print(type(model).__name__, len(tokenizer("A house")["input_ids"]), nas_llm.load_genome(sys.argv[1]).kv_groups[0])
"""


def test_it_loads_without_a_question_and_without_running_the_code_of_the_export(export: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    (copy / "modeling_nas_llama.py").write_text("raise SystemExit('the code of an export was run')\n")
    # An open pipe in which nothing comes: a question would be seen on standard output, and wait.
    with subprocess.Popen(
        [sys.executable, "-c", _ALONE, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "NasLlamaForCausalLM 4 0\n"
    assert process.returncode == 0


def test_the_type_of_the_weights_can_be_chosen(export: Path) -> None:
    assert nas_llm.load(export)[0].dtype == torch.float16
    assert nas_llm.load(str(export), dtype=torch.float32)[0].dtype == torch.float32


def test_what_is_not_accepted_is_said(export: Path, tmp_path: Path) -> None:
    accepted = "load takes the hf directory of an export"
    for path in (tmp_path / "model-f32.gguf", tmp_path / "gguf"):
        (tmp_path / "gguf").mkdir(exist_ok=True)
        (tmp_path / "gguf" / "model-f32.gguf").write_bytes(b"GGUF")
        with pytest.raises(ModelError, match=f"is GGUF, which llama.cpp runs; {accepted}"):
            nas_llm.load(path)
    with pytest.raises(ModelError, match=f"no such directory: .*nix; {accepted}"):
        nas_llm.load(tmp_path / "nix")
    with pytest.raises(ModelError, match=f"has no config.json; {accepted}.*did you mean .*p03/hf"):
        nas_llm.load(export.parent)
    copy = tmp_path / "copy"
    shutil.copytree(export, copy, ignore=shutil.ignore_patterns("tokenizer*"))
    with pytest.raises(ModelError, match="has no tokenizer; copy the dense model's tokenizer files"):
        nas_llm.load(copy)


def test_damaged_weights_are_one_clear_error(export: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(export, copy)
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot load model"):
        nas_llm.load(copy)


def test_genomes_of_what_is_no_export_are_refused(export: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no export of nas-llm: it has no genome\.bin"):
        nas_llm.load_genome(tmp_path)
    with pytest.raises(RunError, match="holds no genomes, there is no such directory; name an export"):
        read_genomes(tmp_path / "nix")
    with pytest.raises(RunError, match="holds no genomes; name an export"):
        read_genomes(tmp_path)
    (tmp_path / "genome.bin").write_bytes((export / "genome.bin").read_bytes()[:-1])
    with pytest.raises(RunError, match=r"genome\.bin cannot be read: not a genome"):
        read_genomes(tmp_path)
    (tmp_path / "genome.bin").unlink()
    (tmp_path / "front.json").write_text("{")
    with pytest.raises(RunError, match="the front is corrupt"):
        read_genomes(tmp_path)


def test_the_package_has_nothing_else_at_its_top() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        nas_llm.lod  # noqa: B018
