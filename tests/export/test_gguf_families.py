"""Families that llama.cpp runs with one size for all layers: as they are if theirs are alike, else padded."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from exported import provenance
from llama_cpp import LlamaCpp, largest_difference, partial_characters, torch_greedy
from llama_cpp_models import ALIKE_CASES, PROMPT, VOCABULARY, random_model

from nas_llm.errors import ExportError
from nas_llm.export import export_format, export_gguf, expressible, padded_layers, servable
from nas_llm.export._padding import filled, pad_layers
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome, SearchSpace
from nas_llm.subnet import build_subnet

# llama.cpp's GELU is of half precision, whatever the file.
TOLERANCE = {"gemma3": 0.05}


@pytest.fixture(scope="module")
def tiny() -> DenseModel:
    return load_model("tiny-llama")


@pytest.fixture(scope="module")
def banned(tiny: DenseModel) -> list[int]:
    return partial_characters(tiny.tokenizer, VOCABULARY)


def _genome(dense: DenseModel, kind: str) -> Genome:
    whole = Genome.dense(dense.architecture)
    attn, mlp = whole.attn_mask.copy(), whole.mlp_mask.copy()
    if kind == "alike":
        attn[:, 1:] = mlp[:, 50:] = False
    if kind == "irregular":
        attn[0] = attn[3] = mlp[2] = mlp[3] = False
        attn[1, 0] = False
        mlp[1, ::3] = mlp[4, 40:] = mlp[0, :20] = False
    return Genome(attn, mlp)


def _written(dense: DenseModel, genome: Genome, target: Path, *, pad: bool) -> Path:
    subnet = build_subnet(dense, genome)
    return export_gguf(subnet, dense, target, provenance=provenance(dense, genome), dtype="f32", pad=pad)


@pytest.mark.parametrize("kind", ["dense", "alike", "irregular"])
@pytest.mark.parametrize("case", list(ALIKE_CASES))
def test_llama_cpp_computes_what_the_subnet_does(
    case: str, kind: str, tiny: DenseModel, banned: list[int], tmp_path: Path
) -> None:
    dense = random_model(case, tiny)
    genome = _genome(dense, kind)
    path = _written(dense, genome, tmp_path / "m", pad=kind == "irregular")
    served, subnet = LlamaCpp(path), build_subnet(dense, genome)
    tolerance = TOLERANCE.get(case, 1e-3)
    assert largest_difference(served, subnet, PROMPT, 40, banned=banned, probs=VOCABULARY) < tolerance
    if case not in TOLERANCE:
        assert served.greedy(PROMPT, 24) == torch_greedy(subnet, PROMPT, 24)
    # The measure is no constant: the dense model is far from what the file holds.
    if kind == "irregular":
        assert largest_difference(served, dense.model, PROMPT, 40, banned=banned, probs=VOCABULARY) > 0.3


@pytest.mark.parametrize("case", list(ALIKE_CASES))
def test_layers_that_differ_are_refused_without_padding(case: str, tiny: DenseModel, tmp_path: Path) -> None:
    dense = random_model(case, tiny)
    genome = _genome(dense, "irregular")
    with pytest.raises(ExportError, match="one size for all layers, and here they differ; --pad fills all up"):
        _written(dense, genome, tmp_path / "m", pad=False)
    assert expressible("gguf", genome, dense.model.config, pad=True) == []
    assert expressible("gguf", _genome(dense, "alike"), dense.model.config) == []
    assert not list(tmp_path.iterdir())


def test_a_padded_file_says_what_it_does_not_save(tiny: DenseModel, tmp_path: Path) -> None:
    dense = random_model("qwen3", tiny)
    genome = _genome(dense, "irregular")
    path = _written(dense, genome, tmp_path / "m", pad=True)
    tensors = gguf.GGUFReader(path).tensors
    said = json.loads((path.parent / "nas_llm.json").read_text())["padding"]
    assert said["layers"] == [0, 1, 2, 3, 4]
    assert (said["kv_groups"], said["ffn_channels"]) == (2, 96)
    size = sum(tensor.n_bytes for tensor in tensors)
    assert said["weight_bytes"]["file"] == size
    weights = sum(parameter.nbytes for parameter in build_subnet(dense, genome).parameters())
    assert said["weight_bytes"]["without_zeros"] == weights
    assert said["macs_per_token"]["file"] > said["macs_per_token"]["without_zeros"]
    card = (path.parent / "README.md").read_text()
    assert "2 KV groups of 32 channels and\n96 FFN channels" in card
    assert "layers padded with zeros" in gguf.GGUFReader(path).fields["general.description"].contents()


def test_what_is_written_is_known_before_it_is(tiny: DenseModel) -> None:
    """By the space that it takes, and by the command of the card."""
    dense, form = random_model("qwen3", tiny), export_format("gguf")
    genome, config = _genome(dense, "irregular"), dense.model.config
    plain, padded = (form.written(genome, config, form.settings(pad=pad)) for pad in (False, True))
    assert plain == genome
    assert padded == filled(genome)
    assert padded_layers(genome, padded) == (0, 1, 2, 3, 4)
    assert padded_layers(genome, plain) == ()
    alike = _genome(dense, "alike")
    assert padded_layers(alike, form.written(alike, config, form.settings(pad=True))) == ()


def test_what_llama_cpp_fixes_is_refused_by_name(tiny: DenseModel) -> None:
    dense = random_model("smollm3", tiny, no_rope_layers=[1, 0, 1, 1, 1])
    (problem,) = expressible("gguf", _genome(dense, "alike"), dense.model.config)
    assert "every fourth layer" in problem.reason


def test_a_space_is_told_before_a_search(tiny: DenseModel) -> None:
    dense = random_model("gemma3", tiny)
    answer = servable(SearchSpace(dense.architecture), dense.model.config)["gguf"]
    assert answer.genomes == "some"
    assert any("--pad" in hindrance.reason for hindrance in answer.hindrances)


@pytest.mark.parametrize("case", list(ALIKE_CASES))
def test_zeros_change_no_logits_in_memory_either(case: str, tiny: DenseModel) -> None:
    dense = random_model(case, tiny)
    genome = _genome(dense, "irregular")
    subnet = build_subnet(dense, genome)
    padded = pad_layers(subnet, dense, genome, filled(genome))
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, (2, 20)))
    assert (padded.model(ids).logits - subnet(ids).logits).abs().max() < 1e-4
