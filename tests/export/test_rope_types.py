"""Rotary positions of every type that transformers knows: exact in memory and in exports, or refused in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import CHANNELS, LAYERS, VOCABULARY, random_genome, random_windows
from exported import provenance
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from nas_llm.errors import ExportError
from nas_llm.evaluation import load_any
from nas_llm.export import export_decilm, export_gguf, export_hf, servable
from nas_llm.models import DenseModel, adapter_for
from nas_llm.space import Genome, SearchSpace
from nas_llm.subnet import PopulationEvaluator, build_subnet

# Texts of these lengths lie below and above what the model was trained on, and above all of its positions.
ORIGINAL, POSITIONS = 24, 64
LENGTHS = (12, 40, 90, 12)
_BASE: dict[str, Any] = {"rope_theta": 10000.0, "factor": 4.0}
_TRAINED = {**_BASE, "original_max_position_embeddings": ORIGINAL}
ROPE: dict[str, dict[str, Any]] = {
    "default": {"rope_theta": 10000.0},
    "linear": _BASE,
    "dynamic": _BASE,
    "yarn": _TRAINED,
    "longrope": {**_TRAINED, "short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [2.0, 2.5, 3.0, 4.0]},
    "llama3": {**_TRAINED, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    "proportional": {**_BASE, "partial_rotary_factor": 0.5},
}
WRITABLE = {"default", "linear", "llama3"}

_STRANGER = """
import json, sys
sys.modules["nas_llm"] = None
import torch
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()
with torch.no_grad():
    logits = [model(torch.arange(3, 3 + length)[None]).logits for length in json.loads(sys.argv[2])]
torch.save(logits, sys.argv[3])
"""


def dense_model(rope_type: str, family: str = "llama") -> DenseModel:
    kinds: dict[str, tuple[Any, Any]] = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }
    config_class, model_class = kinds[family]
    config = config_class(
        vocab_size=VOCABULARY,
        hidden_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=6,
        num_key_value_heads=3,
        head_dim=8,
        intermediate_size=CHANNELS,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": rope_type, **ROPE[rope_type]},
        **({"sliding_window": None} if family == "mistral" else {}),
    )
    model = model_class._from_config(config, attn_implementation="sdpa").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.15, generator=generator)
    adapter = adapter_for(family)
    return DenseModel(
        model=model,
        tokenizer=None,  # type: ignore[arg-type]
        adapter=adapter,
        architecture=adapter.architecture(config),
        source=rope_type,
        revision=f"random-{rope_type}",
    )


def _ids(length: int) -> torch.Tensor:
    return torch.arange(3, 3 + length)[None] % VOCABULARY


def _export(dense: DenseModel, genome: Genome, target: Path) -> Any:
    subnet = build_subnet(dense, genome)
    export_hf(subnet, dense, target, provenance=provenance(dense, genome))
    return subnet


def test_all_types_are_among_these() -> None:
    assert set(ROPE_INIT_FUNCTIONS) <= set(ROPE)


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.parametrize("rope_type", ROPE)
def test_a_subnet_that_loses_nothing_is_the_dense_model_in_place(rope_type: str, family: str) -> None:
    dense = dense_model(rope_type, family)
    # What one layer loses has no weight: layers differ in size, what they compute does not.
    attn, mlp = np.ones((LAYERS, 3), dtype=bool), np.ones((LAYERS, CHANNELS), dtype=bool)
    attn[1, -1] = mlp[1, -1] = False
    dense.model.model.layers[1].self_attn.o_proj.weight[:, -16:] = 0.0
    dense.model.model.layers[1].mlp.down_proj.weight[:, -1] = 0.0
    subnet = build_subnet(dense, Genome(attn, mlp))
    assert subnet.config.model_type == f"nas_{family}"
    for length in LENGTHS:
        torch.testing.assert_close(subnet(_ids(length)).logits, dense.model(_ids(length)).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rope_type", ROPE)
def test_a_subnet_begins_as_a_loaded_model_does(rope_type: str) -> None:
    dense, genome = dense_model(rope_type), random_genome(dense_model("default"), 1)
    before = build_subnet(dense, genome)(_ids(12)).logits
    # Tables of some types follow the longest text that has passed.
    dense.model(_ids(90))
    assert torch.equal(build_subnet(dense, genome)(_ids(12)).logits, before)


@pytest.mark.parametrize("rope_type", ROPE)
def test_an_export_reloads_without_nas_llm_bit_for_bit(rope_type: str, tmp_path: Path) -> None:
    dense = dense_model(rope_type)
    subnet = _export(dense, random_genome(dense, 1), tmp_path / "model")
    subprocess.run(
        [sys.executable, "-c", _STRANGER, str(tmp_path / "model"), json.dumps(LENGTHS), str(tmp_path / "out.pt")],
        check=True,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
        cwd=tmp_path,
    )
    for length, logits in zip(LENGTHS, torch.load(tmp_path / "out.pt"), strict=True):
        assert torch.equal(logits, subnet(torch.arange(3, 3 + length)[None]).logits)


@pytest.mark.parametrize("rope_type", ROPE)
def test_an_export_of_one_size_is_stock(rope_type: str, tmp_path: Path) -> None:
    dense = dense_model(rope_type)
    mlp = np.zeros((LAYERS, CHANNELS), dtype=bool)
    mlp[:, :64] = True
    subnet = _export(dense, Genome(np.ones((LAYERS, 3), dtype=bool), mlp), tmp_path / "model")
    found = LlamaForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="sdpa").eval()
    for length in LENGTHS:
        assert torch.equal(found(_ids(length)).logits, subnet(_ids(length)).logits)


@pytest.mark.parametrize("rope_type", ROPE)
def test_candidates_are_evaluated_as_their_subnets_are(rope_type: str) -> None:
    dense = dense_model(rope_type)
    windows, genome = random_windows(length=40), random_genome(dense, 1)
    evaluator = PopulationEvaluator(
        dense, windows, metric="perplexity", device=torch.device("cpu"), dtype=torch.float32
    )
    ids = torch.from_numpy(windows.tokens.copy())
    wanted = build_subnet(dense, genome)(ids, labels=ids).loss.exp().item()
    assert evaluator.evaluate([genome]) == [pytest.approx(wanted, rel=1e-4)]


@pytest.mark.parametrize("rope_type", ROPE)
def test_formats_without_a_form_say_so_before_and_after(rope_type: str, tmp_path: Path) -> None:
    dense = dense_model(rope_type)
    genome = Genome.dense(dense.architecture)
    space = SearchSpace(dense.architecture, ffn_multiple=16, attn_ratio=(1.0, 1.0))
    answers = servable(space, dense.model.config)
    assert answers["hf"].genomes == "all"
    exporters: dict[str, Any] = {"gguf": export_gguf, "decilm": export_decilm}
    for name, write in exporters.items():
        blocked = [hint.reason for hint in answers[name].hindrances if f"'{rope_type}'" in hint.reason]
        if rope_type in WRITABLE:
            assert not blocked
            continue
        assert answers[name].genomes == "none"
        reason = f"rotary positions of type '{rope_type}' have no form in it here"
        assert blocked == [f"{reason}; types default, linear, llama3 are accepted"]
        with pytest.raises(ExportError, match=reason):
            write(build_subnet(dense, genome), dense, tmp_path / name, provenance=provenance(dense, genome))


def test_a_reloaded_export_is_what_this_package_loads(tmp_path: Path) -> None:
    dense = dense_model("longrope")
    subnet = _export(dense, random_genome(dense, 1), tmp_path / "model")
    words = Tokenizer(WordLevel({"a": 0, "?": 1}, unk_token="?"))
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(tmp_path / "model")
    found, _ = load_any(str(tmp_path / "model"), dtype=None)
    for length in LENGTHS:
        assert torch.equal(found(_ids(length)).logits, subnet(_ids(length)).logits)
