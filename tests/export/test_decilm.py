"""A DeciLM directory says, in the format's own terms, exactly what the subnet computes."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import CHANNELS, dense_model, random_windows
from exported import provenance
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from nas_llm.errors import ExportError
from nas_llm.export import export_decilm
from nas_llm.export._decilm import block_configs
from nas_llm.export.configuration_decilm import DeciLMConfig
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet


def _genome(dense: DenseModel) -> Genome:
    """Whole attentions or none, any FFN widths, a block without either."""
    whole = Genome.dense(dense.architecture)
    attn, mlp = whole.attn_mask.copy(), whole.mlp_mask.copy()
    attn[[2, 3]] = False
    mlp[[1, 3]] = False
    mlp[0, ::3] = mlp[4, 77:] = False
    return Genome(attn, mlp)


def _written(dense: DenseModel, genome: Genome, target: Path, **options: Any) -> Path:
    subnet = build_subnet(dense, genome)
    return export_decilm(subnet, dense, target, provenance=provenance(dense, genome), **options)


class _Reader:
    """DeciLM as its documentation tells it, read from the files of an export alone.

    Args:
        directory: The export.
    """

    def __init__(self, directory: Path) -> None:
        self.config: dict[str, Any] = json.loads((directory / "config.json").read_text())
        self.weights = load_file(directory / "model.safetensors")
        self.used: set[str] = set()

    def _linear(self, name: str, inputs: Tensor, rows: int) -> Tensor:
        self.used |= {f"{name}.weight", f"{name}.bias"} & set(self.weights)
        weight = self.weights[f"{name}.weight"]
        assert weight.shape == (rows, inputs.shape[-1]), name
        return functional.linear(inputs, weight, self.weights.get(f"{name}.bias"))

    def _norm(self, name: str, hidden: Tensor) -> Tensor:
        self.used.add(f"{name}.weight")
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"])
        return hidden * scale * self.weights[f"{name}.weight"]

    def _rotated(self, heads: Tensor) -> Tensor:
        half = heads.shape[-1] // 2
        frequencies = self.config["rope_theta"] ** (-torch.arange(half) / half)
        angles = torch.arange(heads.shape[-2])[:, None] * frequencies
        first, second = heads[..., :half], heads[..., half:]
        cos, sin = angles.cos(), angles.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def _attention(self, name: str, hidden: Tensor, block: Mapping[str, Any]) -> Tensor:
        heads, head_dim = self.config["num_attention_heads"], self.config["head_dim"]
        kv_heads = heads // block["n_heads_in_group"]

        def split(part: str, count: int) -> Tensor:
            projected = self._linear(f"{name}.{part}_proj", hidden, count * head_dim)
            return projected.unflatten(-1, (count, head_dim)).transpose(1, 2)

        q, k, v = split("q", heads), split("k", kv_heads), split("v", kv_heads)
        out = functional.scaled_dot_product_attention(
            self._rotated(q), self._rotated(k), v, is_causal=True, enable_gqa=True
        )
        return self._linear(f"{name}.o_proj", out.transpose(1, 2).flatten(2), hidden.shape[-1])

    def logits(self, ids: Tensor) -> Tensor:
        hidden = functional.embedding(ids, self.weights["model.embed_tokens.weight"])
        assert len(self.config["block_configs"]) == self.config["num_hidden_layers"]
        for layer, block in enumerate(self.config["block_configs"]):
            prefix = f"model.layers.{layer}"
            if not block["attention"]["no_op"]:
                normed = self._norm(f"{prefix}.input_layernorm", hidden)
                hidden = hidden + self._attention(f"{prefix}.self_attn", normed, block["attention"])
            if not block["ffn"]["no_op"]:
                normed = self._norm(f"{prefix}.post_attention_layernorm", hidden)
                width = _width(block["ffn"], self.config["hidden_size"])
                gate, up = (self._linear(f"{prefix}.mlp.{part}_proj", normed, width) for part in ("gate", "up"))
                down = self._linear(f"{prefix}.mlp.down_proj", functional.silu(gate) * up, hidden.shape[-1])
                hidden = hidden + down
        tied = self.config["tie_word_embeddings"]
        head = "model.embed_tokens.weight" if tied else "lm_head.weight"
        self.used |= {"model.embed_tokens.weight", head}
        return functional.linear(self._norm("model.norm", hidden), self.weights[head])


def _width(ffn: Mapping[str, Any], hidden_size: int) -> int:
    """FFN width as runtimes read it: ``ffn_mult``, rounded up to 256, goes before ``intermediate_size``."""
    if "ffn_mult" not in ffn:
        return int(ffn["intermediate_size"])
    return -(-int(2 * ffn["ffn_mult"] * hidden_size / 3) // 256) * 256


@pytest.mark.parametrize(
    "case", ["llama-gqa-tied", "llama-gqa-untied", "llama-mha-biases", "llama-wide-heads", "mistral"]
)
def test_the_files_alone_give_the_logits(case: str, tmp_path: Path) -> None:
    dense = dense_model(case)
    genome = _genome(dense)
    reader = _Reader(_written(dense, genome, tmp_path / "m"))
    ids = torch.from_numpy(random_windows().tokens.copy())
    torch.testing.assert_close(reader.logits(ids), build_subnet(dense, genome)(ids).logits, rtol=0, atol=1e-4)
    assert reader.used == set(reader.weights)
    assert reader.config["architectures"] == ["DeciLMForCausalLM"]
    assert reader.config["model_type"] == "nemotron-nas"


def test_widths_are_never_rounded() -> None:
    dense = dense_model("llama-gqa-tied")
    blocks = block_configs(_genome(dense), dense.architecture)
    assert [block["ffn"]["intermediate_size"] for block in blocks] == [53, None, CHANNELS, None, 77]
    assert all("ffn_mult" not in block["ffn"] for block in blocks if not block["ffn"]["no_op"])
    assert [block["attention"]["n_heads_in_group"] for block in blocks] == [2, 2, None, None, 2]


@pytest.mark.parametrize("hidden_size", [48, 96, 576, 2048, 4096, 5120])
def test_a_width_that_every_runtime_can_read_is_given_in_both_forms(hidden_size: int) -> None:
    architecture = dataclasses.replace(
        dense_model("llama-gqa-tied").architecture, hidden_size=hidden_size, intermediate_size=14336, num_layers=56
    )
    widths = np.arange(256, 14337, 256)
    genome = Genome(np.ones((56, 3), dtype=bool), np.arange(14336) < widths[:, None])
    blocks = block_configs(genome, architecture)
    assert [_width(block["ffn"], hidden_size) for block in blocks] == widths.tolist()
    assert all("ffn_mult" in block["ffn"] for block in blocks)


# As a runtime does that knows nothing of this package.
_STRANGER = """
import copy, json, pickle, sys
sys.modules["nas_llm"] = None
from transformers import AutoConfig
config = AutoConfig.from_pretrained(sys.argv[1], trust_remote_code=True)
assert type(config).__name__ == "DeciLMConfig", type(config)
for config in (config, copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
    block = config.block_configs[0]
    assert block.attention.no_op is False and block.attention.n_heads_in_group == 2
    assert block.ffn.intermediate_size == 53 and not hasattr(block.ffn, "ffn_mult")
    assert config.block_configs[3].attention.no_op and config.block_configs[3].ffn.no_op
config.save_pretrained(sys.argv[2])
saved = json.load(open(sys.argv[2] + "/config.json"))
assert saved["block_configs"] == json.load(open(sys.argv[1] + "/config.json"))["block_configs"]
assert len(config.to_json_string()) > 0
rope = config.rope_parameters
facts = {"theta": rope["rope_theta"], "type": rope["rope_type"]}
print(json.dumps(facts | {"head_dim": config.head_dim, "heads": config.num_attention_heads}))
"""


def test_the_configuration_loads_without_nas_llm(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    target = _written(dense, _genome(dense), tmp_path / "m")
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    ran = subprocess.run(
        [sys.executable, "-c", _STRANGER, str(target), str(tmp_path / "again")],
        check=True,
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    facts = json.loads(ran.stdout.splitlines()[-1])
    assert facts == {"theta": 10000.0, "type": "default", "head_dim": 8, "heads": 6}


def test_sections_are_plain_data_with_attributes() -> None:
    config = DeciLMConfig(block_configs=[{"attention": {"no_op": True}, "ffn": {"no_op": False}}])
    for section in (config.block_configs[0], copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert json.dumps(getattr(section, "block_configs", section))
    assert not hasattr(config.block_configs[0].ffn, "ffn_mult")


def test_rotary_scaling_is_kept(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    subnet = build_subnet(dense, Genome.dense(dense.architecture))
    scaling = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}
    # The helper's configurations are shared between tests.
    dense.model.config = copy.deepcopy(dense.model.config)
    dense.model.config.rope_parameters = scaling
    facts = provenance(dense, Genome.dense(dense.architecture))
    config = json.loads((export_decilm(subnet, dense, tmp_path / "m", provenance=facts) / "config.json").read_text())
    assert config["rope_theta"] == 500.0
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.0}


def test_refusals_name_layers_and_what_would_be_accepted(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    whole = Genome.dense(dense.architecture)
    attn = whole.attn_mask.copy()
    attn[0] = attn[2, 1] = attn[3, 0] = False
    with pytest.raises(ExportError, match="decilm cannot express this subnet") as error:
        _written(dense, Genome(attn, whole.mlp_mask), tmp_path / "m")
    message = str(error.value)
    assert "layers 2-3: attention with a part of its query heads" in message
    assert "space.attn_ratio = [1.0, 1.0]" in message
    assert "layer 0: the first block has no attention" in message
    assert "space.protected_layers = [0]" in message
    assert list(tmp_path.iterdir()) == []


def test_other_families_are_refused(tmp_path: Path) -> None:
    dense = dense_model("opt")
    with pytest.raises(ExportError, match="vLLM runs blocks of different sizes for Llama-like models only"):
        _written(dense, Genome.dense(dense.architecture), tmp_path / "m")
