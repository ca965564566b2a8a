"""A DeciLM directory says, in the format's own terms, exactly what the subnet computes."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from decilm_reader import DecilmReader, ffn_width
from dense_models import CHANNELS, dense_model, random_windows
from exported import provenance

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


@pytest.mark.parametrize(
    "case", ["llama-gqa-tied", "llama-gqa-untied", "llama-mha-biases", "llama-wide-heads", "mistral"]
)
def test_the_files_alone_give_the_logits(case: str, tmp_path: Path) -> None:
    dense = dense_model(case)
    genome = _genome(dense)
    reader = DecilmReader(_written(dense, genome, tmp_path / "m"))
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
    assert [ffn_width(block["ffn"], hidden_size) for block in blocks] == widths.tolist()
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
    with pytest.raises(ExportError, match="vLLM runs blocks of different sizes for some models only"):
        _written(dense, Genome.dense(dense.architecture), tmp_path / "m")
