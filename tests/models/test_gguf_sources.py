"""A GGUF file is read whole, or it is said what of it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from checkpoints import changed
from exported import provenance
from torch import Tensor

from nas_llm.cache import cache_dir
from nas_llm.errors import ModelError
from nas_llm.evaluation import load_any
from nas_llm.export import export_gguf
from nas_llm.export.gguf import _gguf as writing
from nas_llm.models import DenseModel, load_model
from nas_llm.models import _gguf as reading
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

LLAMA_3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0}
LLAMA_3 |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def _file(dense: DenseModel, folder: Path, *, channels: tuple[int, ...] = (128,)) -> Path:
    """The first channels of each layer in turn; one width is a plain Llama, several are llama.cpp's own kind."""
    shape = dense.architecture
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
    for layer in range(shape.num_layers):
        mlp[layer, : channels[layer % len(channels)]] = True
    genome = Genome(attn, mlp)
    said = provenance(dense, genome)
    return export_gguf(build_subnet(dense, genome), dense, folder, provenance=said, dtype="f32")


def _biased(state: dict[str, Tensor]) -> None:
    for layer in range(6):
        for name, width in (("q", 96), ("k", 48), ("v", 48), ("o", 96)):
            state[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = torch.ones(width, dtype=torch.float16)


def test_a_plain_file_loads(tmp_path: Path) -> None:
    dense = load_model("tiny-llama")
    file = _file(dense, tmp_path / "gguf")
    assert load_any(str(file))[0].config.intermediate_size == 128


@pytest.mark.parametrize("load", [load_model, load_any])
def test_our_own_export_for_llama_cpp_says_what_to_take_instead(tmp_path: Path, load: Any) -> None:
    file = _file(load_model("tiny-llama"), tmp_path / "gguf", channels=(128, 64))
    for source in (str(file), str(file.parent)):
        with pytest.raises(ModelError) as caught:
            load(source)
        said = str(caught.value)
        assert len(said) < 600
        assert "\n" not in said
        if source == str(file):
            assert "is an export of nas-llm for llama.cpp (architecture deci)" in said
            assert "nas-llm export RUN --point p03 --format hf" in said
            assert f'search its dense model tiny-llama with search.start_from = ["{file.parent}"]' in said
        else:
            assert f"did you mean {file}?" in said


def test_an_architecture_that_transformers_does_not_read_is_named_alone(tmp_path: Path) -> None:
    file = _file(load_model("tiny-llama"), tmp_path / "gguf", channels=(128, 64))
    file.write_bytes(file.read_bytes().replace(b"nas_llm.genome", b"xyz_llm.genome"))
    with pytest.raises(ModelError, match=r"Unrecognized model identifier: deci\.$") as caught:
        load_model(str(file))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": {"rope_parameters": LLAMA_3}}, r"rope_freqs\.weight"),
        ({"config": {"attention_bias": True}, "weights": _biased}, r"blk\.0\.attn_k\.bias, .* and 21 more"),
    ],
)
def test_weights_that_transformers_leaves_out_are_named(tmp_path: Path, changes: dict[str, Any], named: str) -> None:
    dense = load_model(str(changed(tmp_path / "model", **changes)))
    with pytest.raises(ModelError, match=rf"holds {named}, which transformers does not read"):
        load_any(str(_file(dense, tmp_path / "gguf")))


def test_rotary_scaling_that_transformers_leaves_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = writing._size

    def scaled(writer: gguf.GGUFWriter, *arguments: Any) -> None:
        size(writer, *arguments)
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)

    monkeypatch.setattr(writing, "_size", scaled)
    file = _file(load_model("tiny-llama"), tmp_path / "gguf")
    with pytest.raises(ModelError, match=r"holds llama\.rope\.scaling\.type = yarn, which"):
        load_model(str(file))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    file = _file(load_model("tiny-llama"), tmp_path / "gguf")
    file.write_bytes(file.read_bytes().replace(b"blk.2.ffn_up.weight", b"blk.2.ffn_uq.weight"))
    with pytest.raises(ModelError, match=r"lack model\.layers\.2\.mlp\.up_proj\.weight"):
        load_model(str(file))


def test_a_file_that_changes_while_it_is_converted_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _file(load_model("tiny-llama"), tmp_path / "gguf", channels=(96,))
    read, before = reading._read, len(list((cache_dir() / "models").iterdir()))

    def late(path: Path) -> Any:
        found = read(path)
        with path.open("r+b") as opened:
            opened.seek(-4, 2)
            opened.write(b"\x11\x11\x11\x11")
        return found

    monkeypatch.setattr(reading, "_read", late)
    with pytest.raises(ModelError, match="was changed while it was read"):
        load_model(str(file))
    assert len(list((cache_dir() / "models").iterdir())) == before


def test_the_provenance_of_a_file_may_be_gone(tmp_path: Path) -> None:
    file = _file(load_model("tiny-llama"), tmp_path / "gguf", channels=(128, 64))
    (file.parent / "nas_llm.json").write_text(json.dumps(["no", "object"]))
    with pytest.raises(ModelError, match="search its dense model with search.start_from"):
        load_model(str(file))
