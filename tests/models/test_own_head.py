"""Whether the token embedding is the LM head is asked of the weights, not of ``tie_word_embeddings``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from checkpoints import EMBEDDING, HEAD, WEIGHTS, changed, own_head
from dense_models import random_genome
from exported import provenance
from safetensors.torch import load_file
from torch import Tensor

from nas_llm.evaluation import load_any
from nas_llm.export import export_decilm, export_gguf, export_hf
from nas_llm.models import DenseModel, load_model
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet

IDS = torch.arange(10, 60)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed(tmp_path_factory.mktemp("own-head") / "model", weights=own_head)


@pytest.fixture(scope="module")
def dense(folder: Path) -> DenseModel:
    return load_model(str(folder))


def uniform(dense: DenseModel) -> Genome:
    shape = dense.architecture
    attn = np.zeros((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
    attn[:, :2] = mlp[:, :128] = True
    return Genome(attn, mlp)


def whole_attention(dense: DenseModel) -> Genome:
    shape = dense.architecture
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.ones((shape.num_layers, shape.intermediate_size), dtype=bool)
    mlp[2] = attn[3] = False
    return Genome(attn, mlp)


def test_the_subnet_that_keeps_everything_is_the_dense_model(dense: DenseModel) -> None:
    subnet = build_subnet(dense, Genome.dense(dense.architecture))
    assert torch.equal(subnet(IDS).logits, dense.model(IDS).logits)


def test_its_parameters_are_counted(dense: DenseModel) -> None:
    params = sum(parameter.numel() for parameter in dense.model.parameters())
    assert CostModel(dense.architecture, sequence_length=8).dense.params == params
    assert not dense.architecture.tied_embeddings


@pytest.mark.parametrize("offload", [True, False])
def test_every_way_of_loading_keeps_it(folder: Path, dense: DenseModel, offload: bool) -> None:
    head = load_file(folder / WEIGHTS)[HEAD]
    other = load_model(str(folder), offload=offload)
    assert torch.equal(other.model.lm_head.weight, head)
    assert other.model.config.tie_word_embeddings is False
    genome = random_genome(dense, 1)
    assert torch.equal(build_subnet(other, genome)(IDS).logits, build_subnet(dense, genome)(IDS).logits)
    assert torch.equal(load_any(str(folder), dtype=None)[0].lm_head.weight, head)


@pytest.mark.parametrize("kind", ["irregular", "stock"])
def test_a_hugging_face_export_keeps_it(dense: DenseModel, tmp_path: Path, kind: str) -> None:
    genome = random_genome(dense, 1) if kind == "irregular" else uniform(dense)
    subnet = build_subnet(dense, genome)
    target = export_hf(subnet, dense, tmp_path / "hf", provenance=provenance(dense, genome))
    config = json.loads((target / "config.json").read_text())
    assert config["model_type"] == ("nas_llama" if kind == "irregular" else "llama")
    assert config["tie_word_embeddings"] is False
    found, _ = load_any(str(target), dtype=None)
    assert torch.equal(found.lm_head.weight, dense.model.lm_head.weight)
    assert torch.equal(found(IDS).logits, subnet(IDS).logits)


def test_a_gguf_file_keeps_it(dense: DenseModel, tmp_path: Path) -> None:
    genome = random_genome(dense, 1)
    file = export_gguf(
        build_subnet(dense, genome), dense, tmp_path / "gguf", provenance=provenance(dense, genome), dtype="f16"
    )
    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(file).tensors}
    assert np.array_equal(tensors["output.weight"], dense.model.lm_head.weight.numpy())


def test_a_decilm_directory_keeps_it(dense: DenseModel, tmp_path: Path) -> None:
    genome = whole_attention(dense)
    target = export_decilm(
        build_subnet(dense, genome), dense, tmp_path / "decilm", provenance=provenance(dense, genome)
    )
    assert torch.equal(load_file(target / WEIGHTS)[HEAD], dense.model.lm_head.weight)
    assert json.loads((target / "config.json").read_text())["tie_word_embeddings"] is False


def _twice(state: dict[str, Tensor]) -> None:
    state[HEAD] = state[EMBEDDING].clone()


def _head_alone(state: dict[str, Tensor]) -> None:
    state[HEAD] = state.pop(EMBEDDING)


@pytest.mark.parametrize("weights", [_twice, _head_alone, lambda state: None])
@pytest.mark.parametrize("offload", [True, False])
def test_one_matrix_under_either_name_is_tied(tmp_path: Path, weights: Any, offload: bool) -> None:
    dense = load_model(str(changed(tmp_path / "model", weights=weights)), offload=offload)
    assert dense.model.lm_head.weight is dense.model.model.embed_tokens.weight
    assert dense.architecture.tied_embeddings
    assert torch.equal(dense.model.lm_head.weight, load_model("tiny-llama").model.lm_head.weight)
