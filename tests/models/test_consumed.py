"""A family that does not know every weight of a model, or counts them wrong, is refused when the model is loaded."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from checkpoints import changed
from dense_models import DENSE_CASES, dense_model
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from nas_llm.errors import ModelError
from nas_llm.models import PACKAGED_MODELS, load_model
from nas_llm.models import _loading as loading
from nas_llm.models._consumed import check_consumed
from nas_llm.models.families import FamilyAdapter
from nas_llm.models.families._llama import LlamaAdapter
from nas_llm.space import Architecture


class HastyQwen3(LlamaAdapter):
    """Qwen 3 as if it were a Llama; its blocks have norms of q and k beside the projections."""

    name: ClassVar[str] = "hasty-qwen3"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3",)


class Forgetful(LlamaAdapter):
    """A Llama with biases, counted without them."""

    name: ClassVar[str] = "forgetful"

    def architecture(self, config: PretrainedConfig) -> Architecture:
        said = super().architecture(config)
        return dataclasses.replace(said, qkv_bias=False, o_bias=False)


class Blind(LlamaAdapter):
    """A Llama whose final norm nobody hands on."""

    name: ClassVar[str] = "blind"

    def outer(self, model: PreTrainedModel) -> nn.ModuleDict:
        return nn.ModuleDict({name: part for name, part in super().outer(model).items() if name != "norm"})


class Wide(LlamaAdapter):
    """A Llama with fewer words than it has."""

    name: ClassVar[str] = "wide"

    def architecture(self, config: PretrainedConfig) -> Architecture:
        return dataclasses.replace(super().architecture(config), vocab_size=1000)


class Narrow(LlamaAdapter):
    """A Llama with wider heads than it has."""

    name: ClassVar[str] = "narrow"

    def architecture(self, config: PretrainedConfig) -> Architecture:
        return dataclasses.replace(super().architecture(config), head_dim=8)


def _served_by(adapter: FamilyAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "adapter_for", lambda model_type: adapter)


@pytest.mark.parametrize("offload", [False, True])
def test_weights_of_blocks_that_no_part_of_the_family_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offload: bool
) -> None:
    config = Qwen3Config(
        vocab_size=1024, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, head_dim=8, bos_token_id=0, eos_token_id=0, max_position_embeddings=128,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    for file in PACKAGED_MODELS["tiny-llama"].locate().glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    _served_by(HastyQwen3(), monkeypatch)
    with pytest.raises(ModelError) as caught:
        load_model(str(tmp_path), offload=offload)
    said = str(caught.value)
    assert "family 'hasty-qwen3' does not fit model" in said
    assert "does not know: self_attn.q_norm.weight, self_attn.k_norm.weight" in said
    assert "\n" not in said


def _biased(state: dict[str, Any]) -> None:
    for layer in range(6):
        for name, width in (("q", 96), ("k", 48), ("v", 48), ("o", 96)):
            state[f"model.layers.{layer}.self_attn.{name}_proj.bias"] = torch.ones(width, dtype=torch.float16)


@pytest.mark.parametrize("offload", [False, True])
def test_biases_that_the_family_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offload: bool) -> None:
    source = changed(tmp_path / "model", config={"attention_bias": True}, weights=_biased)
    params = sum(weight.numel() for weight in load_model(str(source)).model.parameters())
    _served_by(Forgetful(), monkeypatch)
    with pytest.raises(ModelError, match="family 'forgetful' does not fit") as caught:
        load_model(str(source), offload=offload)
    said = str(caught.value)
    assert (
        "it has self_attn.q_proj.bias of 96, self_attn.k_proj.bias of 48, self_attn.v_proj.bias of 48 and 1 more"
        in said
    )
    assert f"({params - 6 * 288:,} parameters in all, there are {params:,})" in said


@pytest.mark.parametrize(
    ("adapter", "named"),
    [
        (Blind(), r"weights outside of its blocks that the family does not know: model\.norm\.weight"),
        (Wide(), r"it has model\.embed_tokens\.weight of 1024 x 96, model\.norm\.weight of 96"),
        (Narrow(), r"it has self_attn\.q_proj\.weight of 96 x 96, self_attn\.k_proj\.weight of 48 x 96"),
    ],
)
def test_other_weights_are_named_too(adapter: FamilyAdapter, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _served_by(adapter, monkeypatch)
    with pytest.raises(ModelError, match=named):
        load_model("tiny-llama")


@pytest.mark.parametrize("case", DENSE_CASES)
def test_the_families_of_the_package_know_their_models(case: str) -> None:
    dense = dense_model(case)
    check_consumed(dense.adapter, dense.model, dense.architecture, case)
