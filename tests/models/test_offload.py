"""A model whose blocks stay on disk is the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from dense_models import random_genome, random_windows
from safetensors.torch import load_file, save_file
from torch.nn import functional

from nas_llm.calibration import calibrate
from nas_llm.errors import ModelError
from nas_llm.models import PACKAGED_MODELS, DenseModel, WeightFiles, blocked_causal_attention, load_model
from nas_llm.reconstruction import SequentialReconstructor
from nas_llm.subnet import PopulationEvaluator, build_subnet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def resident() -> DenseModel:
    return load_model("tiny-llama")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory, resident: DenseModel) -> Path:
    directory = tmp_path_factory.mktemp("sharded")
    resident.model.save_pretrained(directory, max_shard_size="300KB")
    resident.tokenizer.save_pretrained(directory)
    assert len(list(directory.glob("*.safetensors"))) > 2
    return directory


@pytest.mark.parametrize("shards", [False, True])
def test_blocks_are_read_when_they_are_asked_for(resident: DenseModel, sharded: Path, shards: bool) -> None:
    lazy = load_model(str(sharded) if shards else "tiny-llama", offload=True)
    blocks = lazy.adapter.layers(lazy.model)
    assert all(weight.device.type == "meta" for weight in blocks.parameters())
    for layer in range(lazy.architecture.num_layers):
        read, held = lazy.block_state(layer), resident.block_state(layer)
        assert read.keys() == held.keys()
        assert all(torch.equal(read[name], held[name]) for name in held)
    outside = {name: weight for name, weight in lazy.model.named_parameters() if ".layers." not in name}
    assert all(torch.equal(weight, resident.model.state_dict()[name]) for name, weight in outside.items())


def test_streaming_from_disk_equals_the_resident_model(resident: DenseModel, sharded: Path) -> None:
    lazy = load_model(str(sharded), offload=True)
    genomes = [random_genome(resident, seed) for seed in range(4)]
    windows = random_windows(length=32)
    values = [
        PopulationEvaluator(dense, windows, metric="perplexity", device=CPU, dtype=torch.float32, stream=stream)
        for dense, stream in ((resident, False), (lazy, True), (lazy, False))
    ]
    first, *others = (evaluator.evaluate(genomes) for evaluator in values)
    assert others == [first, first]


def test_calibration_and_slicing_need_no_model_in_memory(resident: DenseModel, sharded: Path) -> None:
    lazy = load_model(str(sharded), offload=True)
    windows = random_windows(length=32, name="calibration")
    arguments = {"scorer": "importance", "damping": 0.01, "device": CPU}
    expected, found = (calibrate(dense, windows, **arguments) for dense in (resident, lazy))  # type: ignore[arg-type]
    assert (expected.scores.mlp == found.scores.mlp).all()
    genome = random_genome(resident, 1)
    one, other = build_subnet(resident, genome), build_subnet(lazy, genome)
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


def test_turned_values_are_turned_as_they_are_read(resident: DenseModel, sharded: Path) -> None:
    windows = random_windows(length=32, name="calibration")
    one, other = (
        calibrate(dense, windows, rotate=True, device=CPU).dense
        for dense in (resident, load_model(str(sharded), offload=True))
    )
    assert one.rotation_key != other.rotation_key
    for layer in range(resident.architecture.num_layers):
        wanted, found = one.block_state(layer), other.block_state(layer)
        assert all(torch.allclose(wanted[name], found[name], atol=1e-6) for name in wanted)
        block = other.block(layer, CPU, torch.float32)
        assert all(torch.equal(weight, found[name]) for name, weight in block.state_dict().items())


def test_the_sequential_reconstruction_needs_no_model_in_memory(resident: DenseModel, sharded: Path) -> None:
    genome, windows = random_genome(resident, 1), random_windows(length=32)
    one, other = (
        SequentialReconstructor(dense, windows, start="inherited", device=CPU).reconstruct(genome)
        for dense in (resident, load_model(str(sharded), offload=True))
    )
    for wanted, found in zip(one.layers, other.layers, strict=True):
        assert wanted.keys() == found.keys()
        assert all(torch.equal(weight, found[name]) for name, weight in wanted.items())


def test_auto_keeps_a_small_model_in_memory() -> None:
    assert load_model("tiny-llama", offload="auto").files is None


def test_auto_offloads_what_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_llm.models._loading.available_bytes", lambda: 1000)
    assert load_model("tiny-llama", offload="auto").files is not None


def test_a_directory_without_safetensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read block by block"):
        WeightFiles(tmp_path)


def test_tensors_under_other_names_are_refused(tmp_path: Path) -> None:
    source = PACKAGED_MODELS["tiny-llama"].locate()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(source / "model.safetensors")
    save_file({name.replace("layers", "h"): value for name, value in weights.items()}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no tensor model.layers.0"):
        load_model(str(tmp_path), offload=True)


@pytest.mark.parametrize(("length", "heads", "groups"), [(7, 6, 2), (128, 3, 3), (300, 4, 1)])
def test_blocked_attention_is_causal_softmax_attention(length: int, heads: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, heads, length, 16, generator=generator)
    key, value = torch.randn(2, 2, groups, length, 16, generator=generator)
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True, scale=0.3)
    found = blocked_causal_attention(query, key, value, scaling=0.3)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-5)
