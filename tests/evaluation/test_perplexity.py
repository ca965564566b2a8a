"""Perplexity against an independent computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.data import WindowSet
from nas_llm.errors import DataError, ModelError
from nas_llm.evaluation import load_any, model_perplexity
from nas_llm.subnet import build_subnet


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt-post-norm"])
def test_equals_a_computation_token_by_token(case: str) -> None:
    dense = dense_model(case)
    subnet, windows = build_subnet(dense, random_genome(dense, 1)), random_windows()
    total, count = 0.0, 0
    for window in windows.tokens:
        probabilities = subnet(torch.tensor(window[None])).logits[0].double().softmax(-1).numpy()
        for position, token in enumerate(window[1:]):
            total -= math.log(probabilities[position, token])
            count += 1
    assert model_perplexity(subnet, windows) == pytest.approx(math.exp(total / count), rel=1e-6)


def test_equals_the_hugging_face_loss() -> None:
    dense, windows = dense_model("llama-gqa-untied"), random_windows(count=1)
    ids = torch.tensor(windows.tokens)
    expected = math.exp(float(dense.model(ids, labels=ids).loss))
    seen: list[int] = []
    assert model_perplexity(dense.model, windows, on_window=seen.append) == pytest.approx(expected, rel=1e-6)
    assert seen == [1]


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary() -> None:
    dense = dense_model("llama-gqa-untied")
    dense.model.lm_head.weight.data.zero_()
    assert model_perplexity(dense.model, random_windows()) == pytest.approx(96.0, rel=1e-6)


def test_windows_beyond_the_positions_are_refused() -> None:
    windows = WindowSet(tokens=np.ones((1, 200), dtype=np.int64), name="long")
    with pytest.raises(DataError, match="200 tokens.*128 positions"):
        model_perplexity(dense_model("opt").model, windows)


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="/no/such"):
        load_any("/no/such/model")
