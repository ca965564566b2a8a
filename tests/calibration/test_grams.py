"""Streamed Gram matrices equal those computed directly from Hugging Face activations."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_windows
from torch import Tensor, nn

from nas_llm.calibration import calibrate, calibration_bytes, keep_grams, kept_gram_bytes, stream_grams
from nas_llm.models import DenseModel


def _direct_inputs(dense: DenseModel, ids: Tensor) -> dict[tuple[int, str], Tensor]:
    found: dict[tuple[int, str], Tensor] = {}
    names = dense.adapter.names
    for layer, block in enumerate(dense.adapter.layers(dense.model)):
        watched = {"attn_in": names.k, "o_in": names.o, "mlp_in": names.fc1[-1], "fc2_in": names.fc2}
        for label, module in watched.items():

            def keep(module: nn.Module, args: tuple[Tensor, ...], key: tuple[int, str] = (layer, label)) -> None:
                found[key] = args[0].reshape(-1, args[0].shape[-1])

            block.get_submodule(module).register_forward_pre_hook(keep)
    dense.model(ids)
    return found


@pytest.mark.parametrize("case", DENSE_CASES)
def test_grams_equal_direct_products(case: str) -> None:
    windows = random_windows(count=5)
    inputs = _direct_inputs(dense_model(case), torch.from_numpy(windows.tokens.copy()))
    layers = 0
    for layer, grams in stream_grams(dense_model(case), windows, device=torch.device("cpu")):
        layers += 1
        for label in ("attn_in", "o_in", "mlp_in", "fc2_in"):
            x, gram = inputs[layer, label].double(), getattr(grams, label)
            assert gram.tokens == windows.num_tokens == len(x)
            torch.testing.assert_close(gram.matrix.double(), x.T @ x, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(gram.total.double(), x.sum(0), rtol=1e-4, atol=1e-4)
    assert layers == 5


def test_batches_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = random_windows(count=5)
    whole = dict(stream_grams(dense_model("opt"), windows, device=torch.device("cpu")))
    monkeypatch.setattr("nas_llm.calibration._gram._BATCH_TOKENS", 48)
    for layer, grams in stream_grams(dense_model("opt"), windows, device=torch.device("cpu")):
        torch.testing.assert_close(grams.fc2_in.matrix, whole[layer].fc2_in.matrix, rtol=1e-4, atol=1e-4)


def test_the_dense_model_keeps_its_hooks_and_weights() -> None:
    dense = dense_model("opt")
    before = {name: value.clone() for name, value in dense.model.state_dict().items()}
    list(stream_grams(dense, random_windows(), device=torch.device("cpu")))
    assert all(torch.equal(value, before[name]) for name, value in dense.model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in dense.model.modules())


def test_kept_grams_are_those_of_the_text_and_found_again() -> None:
    dense, windows, device = dense_model("opt"), random_windows(count=6), torch.device("cpu")
    layers: list[int] = []
    kept = keep_grams(dense, windows, device=device, on_layer=layers.append)
    assert layers == list(range(dense.architecture.num_layers))
    calibration = calibrate(dense, windows, scorer="importance", damping=1e-2, device=device)
    first, last = (
        keep_grams(dense, dataclasses.replace(windows, tokens=windows.tokens[rows]), device=device)
        for rows in (slice(0, 2), slice(2, 6))
    )
    assert len({kept.key, first.key, last.key}) == 3
    for layer in layers:
        for whole, expected, one, other in zip(
            kept.grams(layer), calibration.grams(layer), first.grams(layer), last.grams(layer), strict=True
        ):
            assert torch.equal(whole.matrix, expected.matrix)
            assert torch.equal(whole.total, expected.total)
            merged = one.merged(other)
            assert merged.tokens == whole.tokens == windows.num_tokens
            torch.testing.assert_close(merged.matrix, whole.matrix, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(merged.total, whole.total, rtol=1e-4, atol=1e-4)
    again = keep_grams(dense, windows, device=device, on_layer=lambda layer: os.abort())
    assert again.key == kept.key
    assert torch.equal(again.grams(0)[0].matrix, kept.grams(0)[0].matrix)


@pytest.mark.parametrize("case", DENSE_CASES)
def test_sizes_of_a_calibration_are_known_before(case: str) -> None:
    dense, windows = dense_model(case), random_windows(count=2)
    kept = 0
    for _, grams in stream_grams(dense, windows, device=torch.device("cpu")):
        kept += sum(tensor.nbytes for gram in (grams.o_in, grams.fc2_in) for tensor in (gram.matrix, gram.total))
        held = sum(gram.matrix.nbytes for gram in (grams.attn_in, grams.o_in, grams.mlp_in, grams.fc2_in))
    assert kept_gram_bytes(dense.architecture) == kept
    states = 4 * windows.num_tokens * dense.architecture.hidden_size
    assert calibration_bytes(dense.architecture, tokens=windows.num_tokens) == states + held
