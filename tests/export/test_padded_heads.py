"""Files with padded heads compute what the subnet does, and say what they do not save."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from decilm_reader import DecilmReader
from dense_models import CUT_CASE_MODES, cut_heads, dense_model, random_genome, random_windows
from exported import provenance
from llama_cpp import LlamaCpp, largest_difference, partial_characters, torch_greedy
from llama_cpp_models import PROMPT, VOCABULARY, random_model
from safetensors.torch import load_file
from transformers import PreTrainedModel

from nas_llm.errors import ConfigError, ExportError
from nas_llm.export import GENOME_FILE, check_padding, export_decilm, export_format, export_gguf, expressible, pad_heads
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

MODES = ("head_dim", "head_dim_split")
IDS = torch.from_numpy(random_windows().tokens.copy())


@pytest.fixture(scope="module")
def tiny() -> DenseModel:
    dense = load_model("tiny-llama")
    dense.model.float()
    return dense


def _whole_attention(dense: DenseModel, mode: str, seed: int = 1) -> Genome:
    """All KV groups of an attention or none, each head with some of its channels: what decilm takes when padded."""
    genome = random_genome(dense, seed)
    attn = np.repeat(genome.attn_mask.any(axis=1)[:, None], genome.attn_mask.shape[1], axis=1)
    attn[0], attn[2] = True, False
    return cut_heads(dense.architecture, Genome(attn, genome.mlp_mask), mode, seed)


def _numel(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _cached(model: PreTrainedModel) -> int:
    """Bytes of 16-bit KV cache that a token takes, without the zero of a layer that has no attention."""
    cache = model(torch.full((1, 10), 5), use_cache=True).past_key_values
    there = [layer for layer in cache.layers if layer.keys.shape[1] * layer.keys.shape[3] > 1]
    return sum(2 * (layer.keys.numel() + layer.values.numel()) for layer in there) // 10


def _contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.mark.parametrize(("case", "mode"), CUT_CASE_MODES)
@pytest.mark.parametrize("seed", range(3))
def test_padding_changes_no_logits(case: str, mode: str, seed: int) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, seed, mode)
    subnet = build_subnet(dense, genome)
    before = {name: value.clone() for name, value in subnet.state_dict().items()}
    padded = pad_heads(subnet, dense, genome)
    assert (padded.model(IDS).logits - subnet(IDS).logits).abs().max() < 1e-4
    assert padded.genome == genome.whole_heads()
    shapes = {name: value.shape for name, value in build_subnet(dense, padded.genome).state_dict().items()}
    assert {name: value.shape for name, value in padded.model.state_dict().items()} == shapes
    assert _numel(padded.model) - _numel(subnet) == sum(padded.zeros.values())
    assert all(torch.equal(value, before[name]) for name, value in subnet.state_dict().items())


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mha-biases", "llama-mqa", "mistral"])
@pytest.mark.parametrize("mode", MODES)
def test_decilm_gives_the_logits_of_the_subnet(case: str, mode: str, tmp_path: Path) -> None:
    dense = dense_model(case)
    genome = _whole_attention(dense, mode)
    assert genome.cut_layers.size
    subnet = build_subnet(dense, genome)
    facts = provenance(dense, genome)
    reader = DecilmReader(export_decilm(subnet, dense, tmp_path / "m", provenance=facts, pad=True))
    assert (reader.logits(IDS) - subnet(IDS).logits).abs().max() < 1e-4
    assert reader.used == set(reader.weights)
    assert reader.config["head_dim"] == dense.architecture.head_dim


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        ("untied", "head_dim"),
        ("biases", "head_dim_split"),
        ("wide-heads", "head_dim_split"),
        ("llama3-rope", "head_dim"),
        ("mistral", "head_dim"),
    ],
)
def test_llama_cpp_agrees_on_every_trait(case: str, mode: str, tiny: DenseModel, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    dense = random_model(case, tiny)
    genome = random_genome(dense, 1, mode)
    subnet = build_subnet(dense, genome)
    facts = provenance(dense, genome)
    path = export_gguf(subnet, dense, tmp_path / "m", provenance=facts, dtype="f32", pad=True)
    served, banned = LlamaCpp(path, context=256), partial_characters(tiny.tokenizer, VOCABULARY)
    assert largest_difference(served, subnet, PROMPT, 40, banned=banned, probs=VOCABULARY) < 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [("f32", 1e-3), ("q8_0", 0.25)])
@pytest.mark.parametrize("mode", MODES)
def test_llama_cpp_runs_the_packaged_model(
    dtype: str, tolerance: float, mode: str, tiny: DenseModel, tmp_path: Path
) -> None:
    pytest.importorskip("xllamacpp", reason="llama.cpp is needed to run a GGUF file")
    # Without a first attention, and with a block that has none.
    genome = random_genome(tiny, 0, mode)
    subnet = build_subnet(tiny, genome)
    facts = provenance(tiny, genome)
    path = export_gguf(
        subnet,
        tiny,
        tmp_path / "m",
        provenance=facts,
        dtype=dtype,
        pad=True,  # type: ignore[arg-type]
    )
    served, banned = LlamaCpp(path), partial_characters(tiny.tokenizer, VOCABULARY)
    assert largest_difference(served, subnet, PROMPT, 60, banned=banned, probs=VOCABULARY) < tolerance
    if dtype == "f32":
        assert served.greedy(PROMPT, 20) == torch_greedy(subnet, PROMPT, 20)


@pytest.mark.parametrize("format", ["decilm", "gguf"])
@pytest.mark.parametrize("mode", MODES)
def test_it_says_what_it_does_not_save(format: str, mode: str, tiny: DenseModel, tmp_path: Path) -> None:
    genome = _whole_attention(tiny, mode)
    subnet, facts = build_subnet(tiny, genome), provenance(tiny, genome)
    if format == "decilm":
        export_decilm(subnet, tiny, tmp_path / "m", provenance=facts, pad=True)
        sizes = [tensor.nbytes for tensor in load_file(tmp_path / "m" / "model.safetensors").values()]
    else:
        path = export_gguf(subnet, tiny, tmp_path / "m", provenance=facts, dtype="f32", pad=True)
        sizes = [tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors]
        described = gguf.GGUFReader(path).fields["general.description"].contents()
        assert "heads padded with zeros" in described
    padded = pad_heads(subnet, tiny, genome).model
    said = json.loads((tmp_path / "m" / "nas_llm.json").read_text())
    padding = said["padding"]
    assert padding["layers"] == genome.cut_layers.tolist()
    assert padding["head_dim"] == tiny.architecture.head_dim
    added = 4 * (_numel(padded) - _numel(subnet))
    assert added > 0
    assert padding["weight_bytes"] == {"file": sum(sizes), "without_zeros": sum(sizes) - added}
    assert padding["kv_cache_bytes"] == {"file": _cached(padded), "without_zeros": _cached(subnet)}
    assert padding["macs_per_token"]["without_zeros"] == said["macs_per_token"] == facts.cost.macs_per_token
    assert padding["macs_per_token"]["file"] > said["macs_per_token"]
    # What the subnet itself is stays what it was.
    assert said["genome_digest"] == genome.digest()
    assert Genome.from_bytes((tmp_path / "m" / GENOME_FILE).read_bytes()) == genome
    card = (tmp_path / "m" / "README.md").read_text()
    assert "## What this file does not save" in card
    assert "AutoModelForCausalLM" not in card
    for numbers in (padding["weight_bytes"], padding["kv_cache_bytes"], padding["macs_per_token"]):
        assert f"| {numbers['file']:,} | {numbers['without_zeros']:,} |" in card


@pytest.mark.parametrize("format", ["decilm", "gguf"])
@pytest.mark.parametrize("kind", ["groups", "whole heads"])
def test_nothing_changes_where_no_head_is_cut(format: str, kind: str, tiny: DenseModel, tmp_path: Path) -> None:
    genome = _whole_attention(tiny, "head_dim").whole_heads()
    if kind == "whole heads":
        found = genome.to_layout(tiny.architecture, tiny.architecture.attention_layout("head_dim_split"))
        assert found is not None
        genome = found
    subnet, facts = build_subnet(tiny, genome), provenance(tiny, genome)
    export = export_decilm if format == "decilm" else export_gguf
    for pad in (False, True):
        export(subnet, tiny, tmp_path / str(pad), provenance=facts, pad=pad)
    assert _contents(tmp_path / "False") == _contents(tmp_path / "True")
    assert "README.md" not in os.listdir(tmp_path / "True")


@pytest.mark.parametrize(
    ("format", "setting"), [("gguf", r'space.attention = "kv_group"'), ("decilm", r"space.attn_ratio = \[1.0, 1.0\]")]
)
@pytest.mark.parametrize("mode", MODES)
def test_without_padding_they_are_refused(
    format: str, setting: str, mode: str, tiny: DenseModel, tmp_path: Path
) -> None:
    genome = _whole_attention(tiny, mode)
    export: Any = export_decilm if format == "decilm" else export_gguf
    with pytest.raises(ExportError, match=f"{format} cannot express this subnet. .*--pad fills.*{setting}") as error:
        export(build_subnet(tiny, genome), tiny, tmp_path / "m", provenance=provenance(tiny, genome))
    (problem,) = expressible(format, genome, tiny.model.config)
    assert problem.layers == tuple(genome.cut_layers.tolist())
    assert "one head width for all layers" in problem.reason
    assert str(problem) in str(error.value)
    assert expressible(format, genome, tiny.model.config, pad=True) == []
    assert list(tmp_path.iterdir()) == []


def test_padding_mends_no_more_than_the_heads(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    attn = np.ones((5, 3), dtype=bool)
    attn[2, 1] = False
    mlp = Genome.dense(dense.architecture).mlp_mask
    genome = cut_heads(dense.architecture, Genome(attn, mlp), "head_dim")
    with pytest.raises(ExportError, match="layer 2: attention with a part of its query heads") as error:
        export_decilm(
            build_subnet(dense, genome), dense, tmp_path / "m", provenance=provenance(dense, genome), pad=True
        )
    assert "channels" not in str(error.value)


def test_of_many_layers_the_first_few_are_named(tiny: DenseModel) -> None:
    from nas_llm.export._expressible import layers_in_words

    assert layers_in_words((3,)) == "layer 3"
    assert layers_in_words((0, 1, 2, 5)) == "layers 0-2, 5"
    assert layers_in_words(tuple(range(0, 40, 2))) == "layers 0, 2, 4, 6, 8, 10, 12, 14 and 12 more"


def test_a_format_that_pads_nothing_is_named() -> None:
    with pytest.raises(ConfigError, match="pad is for the formats gguf and decilm; hf is written without"):
        check_padding([export_format("hf")])
    check_padding([export_format("hf"), export_format("gguf")])
