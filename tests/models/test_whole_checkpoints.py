"""A model is what its files hold: nothing made up, nothing dropped that matters, nothing that changes later."""

from __future__ import annotations

import builtins
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from checkpoints import EMBEDDING, HEAD, WEIGHTS, changed, overwrite, own_head
from dense_models import dense_model, random_genome, random_windows
from exported import provenance
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from nas_llm.errors import ModelError
from nas_llm.evaluation import load_any
from nas_llm.export import export_decilm
from nas_llm.models import PACKAGED_MODELS, load_model
from nas_llm.models import _loading as loading
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, build_subnet

CPU = torch.device("cpu")
LOADERS: dict[str, Callable[[str], Any]] = {
    "resident": load_model,
    "offload": lambda source: load_model(source, offload=True),
    "any": load_any,
}
BLOCK = "model.layers.2"


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float16)


def _without(*names: str) -> Callable[[dict[str, Tensor]], None]:
    def remove(state: dict[str, Tensor]) -> None:
        for name in names:
            del state[name]

    return remove


def _with(name: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    def add(state: dict[str, Tensor]) -> None:
        state[name] = _zeros(*shape)

    return add


def _longer(state: dict[str, Tensor]) -> None:
    state[EMBEDDING] = torch.cat([state[EMBEDDING], _zeros(64, 96)])


def _cut_off(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if name.startswith("model.layers.5.")]:
        del state[name]


FAULTS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Tensor]], Any], str]] = {
    "no head": ({"tie_word_embeddings": False}, lambda state: None, rf"lack {HEAD}; .*tie_word_embeddings = true"),
    "no embedding": ({}, _without(EMBEDDING), f"lack {HEAD}, {EMBEDDING}; download"),
    "cut off": ({}, _cut_off, r"lack model\.layers\.5\.input_layernorm\.weight, .* and 6 more; download"),
    "one weight": ({}, _without(f"{BLOCK}.mlp.up_proj.weight"), rf"lack {BLOCK}\.mlp\.up_proj\.weight; download"),
    "biases said": ({"attention_bias": True}, lambda state: None, r"lack model\.layers\.0\.self_attn\.k_proj\.bias"),
    "biases unsaid": (
        {},
        _with(f"{BLOCK}.self_attn.q_proj.bias", 96),
        rf"hold {BLOCK}\.self_attn\.q_proj\.bias, which",
    ),
    "another norm": ({}, _with(f"{BLOCK}.input_layernorm.bias", 96), rf"hold {BLOCK}\.input_layernorm\.bias, which"),
    "norms of heads": ({}, _with(f"{BLOCK}.self_attn.q_norm.weight", 16), r"self_attn\.q_norm\.weight, which"),
    "bias of the head": ({}, _with("lm_head.bias", 1024), r"hold lm_head\.bias, which"),
    "padded vocabulary": ({}, _longer, rf"{EMBEDDING} is 1088 x 96 in its files, and .* asks for 1024 x 96"),
    "head_dim": ({"head_dim": 32}, lambda state: None, r"k_proj\.weight is 48 x 96 in its files, .* for 96 x 96"),
}


@pytest.mark.parametrize("how", LOADERS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_is_not_what_its_configuration_says_is_refused_by_name(
    tmp_path: Path, fault: str, how: str
) -> None:
    config, weights, message = FAULTS[fault]
    source = changed(tmp_path / "model", config=config, weights=weights)
    with pytest.raises(ModelError, match=message) as caught:
        LOADERS[how](str(source))
    assert "\n" not in str(caught.value)
    assert str(source) in str(caught.value)


@pytest.mark.parametrize("how", LOADERS)
def test_whole_parts_that_are_not_used_are_named_in_the_log(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    def weights(state: dict[str, Tensor]) -> None:
        state["v_head.summary.weight"] = _zeros(1, 96)
        # Fewer layers are asked for than there are, to try a smaller model.
        state["model.layers.6.input_layernorm.weight"] = _zeros(96)

    with caplog.at_level(logging.WARNING):
        LOADERS[how](str(changed(tmp_path / "model", weights=weights)))
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("nas_llm")]
    assert "not used: model.layers.6.input_layernorm.weight, v_head.summary.weight" in said


@pytest.mark.parametrize("how", LOADERS)
def test_tables_that_older_checkpoints_hold_are_no_fault(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = changed(tmp_path / "model", weights=_with("model.layers.0.self_attn.rotary_emb.inv_freq", 8))
    with caplog.at_level(logging.WARNING):
        found = LOADERS[how](str(source))
    assert not [record for record in caplog.records if record.name.startswith("nas_llm")]
    if how != "any":
        wanted = load_model("tiny-llama")
        genome = random_genome(wanted, 1)
        one, other = build_subnet(wanted, genome).state_dict(), build_subnet(found, genome).state_dict()
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("how", LOADERS)
def test_a_part_that_is_switched_off_and_has_weights_is_refused(tmp_path: Path, how: str) -> None:
    model = dense_model("opt").model
    model.save_pretrained(tmp_path)
    for file in PACKAGED_MODELS["tiny-llama"].locate().glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_remove_final_layer_norm": True}))
    with pytest.raises(ModelError, match=r"hold model\.decoder\.final_layer_norm\.bias, .*weight, which"):
        LOADERS[how](str(tmp_path))


def test_a_key_that_the_model_does_not_read_says_nothing(tmp_path: Path) -> None:
    config = MistralConfig(
        vocab_size=1024, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, bos_token_id=0, eos_token_id=0, sliding_window=None, max_position_embeddings=128,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path / "model")
    for file in PACKAGED_MODELS["tiny-llama"].locate().glob("tokenizer*"):
        shutil.copy(file, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attention_bias": True, "mlp_bias": True}))
    dense = load_model(str(tmp_path / "model"))
    shape = dense.architecture
    assert (shape.qkv_bias, shape.o_bias, shape.mlp_bias) == (False, False, False)
    genome = Genome.dense(dense.architecture)
    target = export_decilm(build_subnet(dense, genome), dense, tmp_path / "d", provenance=provenance(dense, genome))
    written = json.loads((target / "config.json").read_text())
    assert (written["attention_bias"], written["mlp_bias"]) == (False, False)


def test_a_loaded_model_does_not_follow_its_file(tmp_path: Path) -> None:
    source = changed(tmp_path / "model", weights=own_head)
    dense, (other, _) = load_model(str(source)), load_any(str(source), dtype=None)
    before = {name: weight.clone() for name, weight in dense.model.state_dict().items()}
    overwrite(source / WEIGHTS)
    for model in (dense.model, other):
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    dense.check_files()


def _evaluate(dense: Any, **options: Any) -> list[float]:
    evaluator = PopulationEvaluator(
        dense, random_windows(), metric="perplexity", device=CPU, dtype=torch.float16, **options
    )
    return evaluator.evaluate([random_genome(dense, seed) for seed in range(2)])


def test_where_memory_is_too_short_for_a_copy_no_value_comes_of_a_changed_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas_llm.models._memory.available_bytes", lambda: 1000)
    source = changed(tmp_path / "model")
    dense = load_model(str(source))
    monkeypatch.undo()
    assert len(_evaluate(dense)) == 2
    evaluator = PopulationEvaluator(dense, random_windows(), metric="perplexity", device=CPU, dtype=torch.float16)
    overwrite(source / WEIGHTS)
    kept: list[float] = []
    with pytest.raises(ModelError, match=r"model\.safetensors was changed while it was in use"):
        evaluator.evaluate(
            [random_genome(dense, 1)], on_result=lambda index, value, seconds, fidelity=1.0: kept.append(value)
        )
    assert not kept
    with pytest.raises(ModelError, match="was changed"):
        build_subnet(dense, random_genome(dense, 1))


@pytest.mark.parametrize("way", ["overwritten", "replaced", "removed"])
def test_blocks_are_not_read_from_a_file_that_changed(tmp_path: Path, way: str) -> None:
    source = changed(tmp_path / "model")
    dense = load_model(str(source), offload=True)
    block = dense.block_state(0)
    before = {name: weight.clone() for name, weight in block.items()}
    if way == "overwritten":
        overwrite(source / WEIGHTS)
    elif way == "replaced":
        os.replace(changed(tmp_path / "other", weights=own_head) / WEIGHTS, source / WEIGHTS)
    else:
        (source / WEIGHTS).unlink()
    assert all(torch.equal(weight, before[name]) for name, weight in block.items())
    with pytest.raises(ModelError, match=r"model\.safetensors was changed while it was in use"):
        dense.block_state(0)


def test_a_file_that_changes_between_its_hash_and_its_loading_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = changed(tmp_path / "model")
    whole = loading.load_whole

    def late(*arguments: Any, **options: Any) -> Any:
        overwrite(source / WEIGHTS)
        return whole(*arguments, **options)

    monkeypatch.setattr(loading, "load_whole", late)
    with pytest.raises(ModelError, match="was changed while it was in use"):
        load_model(str(source))


@pytest.mark.parametrize("how", LOADERS)
def test_an_adapter_beside_the_model_is_refused(tmp_path: Path, how: str) -> None:
    source = changed(tmp_path / "model")
    (source / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    with pytest.raises(ModelError, match="has an adapter beside it .*merge it .*or move the adapter's files"):
        LOADERS[how](str(source))


def test_an_adapter_without_its_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="it holds an adapter without its model: merge them"):
        load_model(str(tmp_path))


@pytest.fixture
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: Any) -> NoReturn:
        raise AssertionError(f"a question was asked: {arguments}")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.mark.usefixtures("nobody_to_ask")
@pytest.mark.parametrize("how", LOADERS)
def test_a_model_that_needs_code_of_its_own_is_refused_without_a_question(tmp_path: Path, how: str) -> None:
    code = {"model_type": "house_made", "auto_map": {"AutoConfig": "house.HouseConfig"}}
    source = changed(tmp_path / "model", config=code)
    (source / "house.py").write_text("raise SystemExit('the code was run')\n")
    with pytest.raises(ModelError, match="cannot read the configuration of model") as caught:
        LOADERS[how](str(source))
    assert "no local directory" not in str(caught.value)


def test_a_damaged_configuration_is_not_a_model_that_cannot_be_found(tmp_path: Path) -> None:
    source = changed(tmp_path / "model")
    (source / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"cannot read the configuration of model .*JSON"):
        load_model(str(source))
