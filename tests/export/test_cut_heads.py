"""Subnets whose heads keep some of their channels are Hugging Face models like any other, without nas_llm."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import cut_heads, dense_model, random_genome, random_windows
from exported import provenance
from transformers import PreTrainedModel

from nas_llm.export import GENOME_FILE, cast_weights, export_hf
from nas_llm.models import DenseModel
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet, masked_copy

# Never imported here: it makes nas_llm unimportable.
STRANGER = Path(__file__).parents[1] / "support" / "head_stranger.py"
WINDOW = 7
CASES = {
    "llama-gqa-tied": "head_dim",
    "llama-mha-biases": "head_dim_split",
    "llama-mqa": "head_dim_split",
    "mistral": "head_dim",
    "mistral-window": "head_dim_split",
    "opt": "head_dim_split",
    "opt-post-norm": "head_dim",
    "opt-no-bias": "head_dim_split",
}
IDS = torch.from_numpy(random_windows(count=2).tokens.copy())


def _dense(case: str) -> DenseModel:
    if case != "mistral-window":
        return dense_model(case)
    dense = dense_model("mistral")
    # The helper's configurations are shared between tests.
    model = copy.deepcopy(dense.model)
    model.config.sliding_window = WINDOW
    return replace(dense, model=model, architecture=dense.adapter.architecture(model.config))


def _genome(case: str) -> Genome:
    return random_genome(_dense(case), 1, CASES[case])


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, PreTrainedModel]]:
    """Folder of the exports of each case, and the subnet in memory."""
    out, found = tmp_path_factory.mktemp("exports"), {}
    for case in CASES:
        dense, genome = _dense(case), _genome(case)
        assert genome.cut_layers.size > 1
        subnet = build_subnet(dense, genome)
        for dtype in ("float32", "bfloat16"):
            facts = provenance(dense, genome)
            export_hf(subnet, dense, out / case / dtype, provenance=facts, dtype=dtype)  # type: ignore[arg-type]
        torch.save(IDS, out / case / "ids.pt")
        found[case] = (out / case, subnet)
    return found


@pytest.fixture(scope="module")
def answers(
    exports: dict[str, tuple[Path, PreTrainedModel]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    pytest.importorskip("peft")
    scratch = tmp_path_factory.mktemp("stranger")
    done = subprocess.run(
        [sys.executable, str(STRANGER), str(scratch), *(str(folder) for folder, _ in exports.values())],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env={**os.environ, "HF_MODULES_CACHE": str(scratch / "modules")},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reloads_bit_for_bit(case: str, dtype: str, exports: Any, answers: dict[str, Any]) -> None:
    folder, subnet = exports[case]
    assert torch.equal(torch.load(folder / f"{dtype}.pt"), cast_weights(subnet, dtype)(IDS).logits)
    assert answers[case]["again"]


@pytest.mark.parametrize("case", CASES)
def test_computes_what_the_masked_dense_model_does(case: str, exports: Any, answers: dict[str, Any]) -> None:
    dense, folder = _dense(case), exports[case][0]
    masked = masked_copy(dense, _genome(case))(IDS).logits
    assert (torch.load(folder / "float32.pt") - masked).abs().max() < 1e-4
    if case == "mistral-window":
        wide = masked_copy(dense_model("mistral"), _genome(case))(IDS).logits
        # The text is longer than the window.
        assert (masked - wide)[:, WINDOW + 1 :].abs().max() > 1e-2


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_cache_and_of_attention_agrees(case: str, answers: dict[str, Any]) -> None:
    found = answers[case]
    assert len(found["none"]) == len(IDS)
    assert found["none"] == found["dynamic"] == found["static"] == found["static_eager"]
    assert found["padded"] == found["padded_eager"] == found["single"]
    assert found["eager"] < 1e-4
    assert found["continued"] < 1e-4


@pytest.mark.parametrize("case", [case for case in CASES if case != "mistral-window"])
def test_the_cache_holds_what_the_card_says(case: str, exports: Any, answers: dict[str, Any]) -> None:
    said = json.loads((exports[case][0] / "float32" / "nas_llm.json").read_text())
    cost = CostModel(_dense(case).architecture, sequence_length=64)(_genome(case))
    assert said["kv_cache_bytes"] == cost.kv_cache_bytes
    # Of a layer without attention transformers' cache holds a zero a token in keys and values.
    zeros = 2 * int((_genome(case).kv_groups == 0).sum()) * IDS.numel()
    assert cost.kv_cache_bytes * IDS.numel() == 2 * (answers[case]["cache_numbers"] - zeros)
    assert f"| {cost.kv_cache_bytes:,} |" in (exports[case][0] / "float32" / "README.md").read_text()


@pytest.mark.parametrize("case", CASES)
def test_trunk_classifier_and_low_rank_updates(case: str, answers: dict[str, Any]) -> None:
    found = answers[case]
    assert found["trunk"]
    assert found["classifier"] == [len(IDS), 3]
    assert found["lora"]["moved"] > 1e-3
    assert found["lora"]["merged"] < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_configuration_and_card_name_the_channels_of_every_layer(case: str, exports: Any) -> None:
    directory, genome = exports[case][0] / "float32", _genome(case)
    layers = json.loads((directory / "config.json").read_text())["per_layer_config"]
    sizes = genome.layer_sizes()
    assert json.loads((directory / "nas_llm.json").read_text())["layers"] == list(sizes)
    card = (directory / "README.md").read_text().split("## Layers")[1].splitlines()
    shape = _dense(case).architecture
    for layer, size in enumerate(sizes):
        kept = size.get("qk_channels", size.get("head_channels")), size.get("vo_channels", size.get("head_channels"))
        entry = layers.get(str(layer), {})
        if layer in genome.cut_layers:
            assert (entry["qk_head_dim"], entry["v_head_dim"]) == kept
            assert entry["kept_units"] == kept[0] // (2 if shape.rotary_channels else 1)
        else:
            assert not entry.keys() & {"qk_head_dim", "v_head_dim", "kept_units"}
        row = next(line for line in card if line.startswith(f"| {layer} |")).strip("| ").split(" | ")
        assert [int(cell) if cell.isdigit() else 0 for cell in row] == [layer, *size.values()]


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
@pytest.mark.parametrize("alike", [True, False])
def test_whole_heads_are_exported_as_whole_groups_are(case: str, mode: str, alike: bool, tmp_path: Path) -> None:
    dense = dense_model(case)
    shape = dense.architecture
    genome = random_genome(dense, 1)
    if alike:
        mlp = np.zeros_like(genome.mlp_mask)
        mlp[:, :40] = True
        genome = Genome(np.ones_like(genome.attn_mask), mlp)
    heads = genome.to_layout(shape, shape.attention_layout(mode))
    assert heads is not None
    assert heads.whole_heads() == heads.to_layout(shape, shape.attention_layout()) == genome
    for name, masks in (("groups", genome), ("heads", heads)):
        export_hf(build_subnet(dense, masks), dense, tmp_path / name, provenance=provenance(dense, masks))
    for file in (tmp_path / "groups").iterdir():
        if file.name not in (GENOME_FILE, "nas_llm.json"):
            other = (tmp_path / "heads" / file.name).read_text("latin1").replace(heads.digest(), genome.digest())
            assert other == file.read_text("latin1"), file.name
    assert Genome.from_bytes((tmp_path / "heads" / GENOME_FILE).read_bytes()) == heads
    assert ("auto_map" in json.loads((tmp_path / "heads" / "config.json").read_text())) == (not alike)


def test_narrow_heads_are_no_stock_model(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    layout = dense.architecture.attention_layout("head_dim")
    whole = Genome.dense(dense.architecture)
    row = layout.row((np.arange(layout.axes[0].units) < np.full((layout.num_kv_heads, 1), 2),))
    genome = Genome(np.stack([row] * whole.num_layers), whole.mlp_mask, layout)
    export_hf(build_subnet(dense, genome), dense, tmp_path / "m", provenance=provenance(dense, genome))
    assert "auto_map" in json.loads((tmp_path / "m" / "config.json").read_text())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
def test_a_layer_is_cut_where_no_whole_groups_say_it(seed: int, mode: str) -> None:
    dense = dense_model("llama-wide-heads")
    shape = dense.architecture
    genome = cut_heads(shape, random_genome(dense, seed), mode, seed)
    assert (genome.to_layout(shape, shape.attention_layout()) is None) == bool(genome.cut_layers.size)
    for layer, row in enumerate(genome.attn_mask):
        qk, vo = (channels[channels.any(-1)] for channels in shape.head_channels(row))
        assert (layer in genome.cut_layers) == (not (qk.all() and vo.all()))
    assert (genome.whole_heads().kv_groups == genome.kv_groups).all()
