"""Sizes that are known without weights are those that the adapters find in transformers' own configurations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM, PretrainedConfig

from nas_llm.errors import ModelError
from nas_llm.models import KNOWN_MODELS, adapter_for, known_architecture, load_model
from nas_llm.space import CostModel


def llama(hidden: int, channels: int, layers: int, heads: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=hidden, intermediate_size=channels, num_hidden_layers=layers, num_attention_heads=heads
    )


def opt(hidden: int, layers: int, heads: int) -> OPTConfig:
    return OPTConfig(hidden_size=hidden, ffn_dim=4 * hidden, num_hidden_layers=layers, num_attention_heads=heads)


# Sizes as their papers print them, on transformers' defaults for the rest; parameters as the hub counts them.
EXPECTED: dict[str, tuple[PretrainedConfig, int]] = {
    "huggyllama/llama-7b": (llama(4096, 11008, 32, 32), 6_738_415_616),
    "huggyllama/llama-13b": (llama(5120, 13824, 40, 40), 13_015_864_320),
    "huggyllama/llama-30b": (llama(6656, 17920, 60, 52), 32_528_943_616),
    "huggyllama/llama-65b": (llama(8192, 22016, 80, 64), 65_285_660_672),
    "lmsys/vicuna-7b-v1.3": (llama(4096, 11008, 32, 32), 6_738_415_616),
    "facebook/opt-125m": (opt(768, 12, 12), 125_239_296),
    "facebook/opt-1.3b": (opt(2048, 24, 32), 1_315_758_080),
    "facebook/opt-2.7b": (opt(2560, 32, 32), 2_651_596_800),
}


# Parameters as the hub counts them.
COUNTS = {
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-1.7B": 1_720_574_976,
    "Qwen/Qwen3-4B": 4_022_468_096,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-3B": 3_085_938_688,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "HuggingFaceTB/SmolLM2-360M": 361_821_120,
    "HuggingFaceTB/SmolLM2-1.7B": 1_711_376_384,
    "HuggingFaceTB/SmolLM3-3B": 3_075_098_624,
    "google/gemma-3-270m": 268_098_176,
    "google/gemma-3-1b-pt": 999_885_952,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "ibm-granite/granite-3.3-2b-base": 2_533_539_840,
}


def test_every_known_model_is_held_against_something() -> None:
    assert EXPECTED.keys() | COUNTS.keys() == KNOWN_MODELS.keys()


@pytest.mark.parametrize("name", COUNTS)
def test_known_sizes_make_as_many_parameters_as_the_hub_counts(name: str) -> None:
    assert CostModel(known_architecture(name)).dense.params == COUNTS[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_known_sizes_are_those_of_the_adapter(name: str) -> None:
    config, parameters = EXPECTED[name]
    architecture = known_architecture(name)
    assert architecture == adapter_for(config.model_type).architecture(config)
    assert CostModel(architecture).dense.params == parameters
    with torch.device("meta"):
        model = (LlamaForCausalLM if isinstance(config, LlamaConfig) else OPTForCausalLM)(config)
    assert sum(weight.numel() for weight in model.parameters()) == parameters


def test_packaged_models_are_read_where_they_lie() -> None:
    assert known_architecture("tiny-llama") == load_model("tiny-llama").architecture
    # Its weights would be de-quantised first; its sizes are in the head of its file.
    config = llama(576, 1536, 30, 9)
    config.num_key_value_heads, config.vocab_size, config.max_position_embeddings = 3, 49152, 8192
    config.tie_word_embeddings = True
    assert known_architecture("smollm2-135m") == adapter_for("llama").architecture(config)


def test_a_directory_needs_no_more_than_its_configuration(tmp_path: Path) -> None:
    config = {"architectures": ["OPTForCausalLM"], **KNOWN_MODELS["facebook/opt-125m"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert known_architecture(str(tmp_path)) == known_architecture("facebook/opt-125m")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("huggyllama/lama-7b", "not known without the network; did you mean 'huggyllama/llama-7b'?"),
        ("someone/model", "known are huggyllama/llama-7b.*else name a local directory with its config.json"),
        ("./nowhere", "no such model directory"),
        ("nowhere.gguf", "no such GGUF file"),
    ],
)
def test_unknown_models_are_one_line(source: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        known_architecture(source)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF?")
    with pytest.raises(ModelError, match=r"cannot read the sizes of the GGUF file .*a\.gguf: "):
        known_architecture(str(tmp_path / "a.gguf"))
