"""An export where a dense model is asked for: refused at once, without a question, with what can be done."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from dense_models import random_genome
from exported import provenance

from nas_llm.config import load_problem
from nas_llm.errors import ModelError
from nas_llm.evaluation import load_any
from nas_llm.export import export_decilm, export_hf
from nas_llm.models import load_model
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet
from nas_llm.workflow import evaluate_models, run_search, what_is_servable


@pytest.fixture(autouse=True)
def nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*arguments: Any) -> NoReturn:
        raise AssertionError(f"a question was asked: {arguments}")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.fixture(scope="module")
def hf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dense = load_model("tiny-llama")
    genome = random_genome(dense, 1)
    target = tmp_path_factory.mktemp("exports") / "hf"
    return export_hf(build_subnet(dense, genome), dense, target, provenance=provenance(dense, genome))


@pytest.fixture(scope="module")
def decilm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    dense = load_model("tiny-llama")
    shape = dense.architecture
    attn = np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool)
    mlp = np.ones((shape.num_layers, shape.intermediate_size), dtype=bool)
    mlp[2] = False
    genome = Genome(attn, mlp)
    target = tmp_path_factory.mktemp("exports") / "decilm"
    return export_decilm(build_subnet(dense, genome), dense, target, provenance=provenance(dense, genome))


def _instead(source: Path) -> str:
    return f'search its dense model tiny-llama with search.start_from = ["{source}"] and constraints.max_ratio below 0.'


def test_a_search_on_an_export_says_what_to_search_instead(hf: Path, tmp_path: Path) -> None:
    loaded = load_problem("tiny-llama", overrides=[f"model.source={hf}"])
    for ask in (lambda: run_search(loaded, run_dir=tmp_path / "run"), lambda: what_is_servable(loaded.problem)):
        with pytest.raises(ModelError, match="whose blocks differ in size") as caught:
            ask()
        assert _instead(hf) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("offload", [True, "auto", False])
def test_so_does_every_way_of_loading_it(hf: Path, offload: Any) -> None:
    with pytest.raises(ModelError, match="only a model with blocks of one size can be searched"):
        load_model(str(hf), offload=offload)


def test_an_export_for_vllm_says_what_to_take_instead(decilm: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The man went to the house. " * 400)
    for ask in (
        lambda: load_model(str(decilm)),
        lambda: load_any(str(decilm)),
        lambda: evaluate_models([str(decilm)], text=text),
    ):
        with pytest.raises(ModelError, match=r"is an export of nas-llm for vLLM and SGLang \(DeciLM\)") as caught:
            ask()
        assert "nas-llm export RUN --point p03 --format hf" in str(caught.value)
        assert _instead(decilm).partition(" and constraints")[0] in str(caught.value)


def test_an_export_of_one_size_is_a_dense_model_like_any_other(tmp_path: Path) -> None:
    dense = load_model("tiny-llama")
    shape = dense.architecture
    mlp = np.zeros((shape.num_layers, shape.intermediate_size), dtype=bool)
    mlp[:, :128] = True
    genome = Genome(np.ones((shape.num_layers, shape.num_kv_heads), dtype=bool), mlp)
    subnet = build_subnet(dense, genome)
    target = export_hf(subnet, dense, tmp_path / "hf", provenance=provenance(dense, genome))
    again = load_model(str(target))
    assert again.architecture.intermediate_size == 128
    ids = torch.arange(10, 60)[None]
    assert torch.equal(again.model(ids).logits, subnet(ids).logits)
