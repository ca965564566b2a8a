"""Scores of channels inside heads, and values turned into the order of their worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_genome, random_windows

from nas_llm.calibration import calibrate, elimination_ranks, score_costs, stream_grams
from nas_llm.models import DenseModel, rotate_state
from nas_llm.subnet import build_subnet

CPU = torch.device("cpu")
MODES = ("head_dim", "head_dim_split")
WINDOWS = random_windows(count=24)


@pytest.mark.parametrize("case", DENSE_CASES)
def test_turned_values_change_nothing(case: str) -> None:
    dense, ids = dense_model(case), torch.from_numpy(WINDOWS.tokens.copy())
    turned = calibrate(dense, WINDOWS, rotate=True, device=CPU).dense
    assert (turned.model(ids).logits - dense.model(ids).logits).abs().max() < 1e-4
    names = dense.adapter.names
    before, after = dense.block_state(1), turned.block_state(1)
    assert not torch.equal(before[f"{names.v}.weight"], after[f"{names.v}.weight"])
    # Everything else is the same memory.
    assert before[f"{names.q}.weight"].data_ptr() == after[f"{names.q}.weight"].data_ptr()
    assert turned.identity != dense.identity
    assert turned.revision == dense.revision
    assert dense.model(ids).logits.equal(dense_model(case).model(ids).logits)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mha-biases", "opt"])
@pytest.mark.parametrize("mode", [*MODES, None])
def test_grams_are_those_of_the_turned_model(case: str, mode: str | None) -> None:
    dense = dense_model(case)
    layout = None if mode is None else dense.architecture.attention_layout(mode)
    calibration = calibrate(dense, WINDOWS, layout=layout, rotate=True, device=CPU)
    for layer, grams in stream_grams(calibration.dense, WINDOWS, device=CPU):
        kept = calibration.grams(layer)[0]
        scale = float(grams.o_in.matrix.abs().max())
        assert (kept.matrix - grams.o_in.matrix).abs().max() < 1e-4 * scale
        assert (kept.total - grams.o_in.total).abs().max() < 1e-3 * float(grams.o_in.total.abs().max())


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mqa", "opt"])
def test_few_turned_channels_hold_more_than_few_plain_ones(case: str) -> None:
    """Energy of o's outputs that the first half of the channels gives: turned ones beat any plain choice."""
    dense = dense_model(case)
    calibration = calibrate(dense, WINDOWS, rotate=True, device=CPU)
    half = dense.architecture.head_dim // 2
    for layer in range(dense.architecture.num_layers):
        turned = _lost(calibration.dense, layer, calibration.grams(layer)[0].matrix, range(half))
        plain = calibrate(dense, WINDOWS, device=CPU).grams(layer)[0].matrix
        rng = np.random.default_rng(layer)
        others = [
            _lost(dense, layer, plain, rng.permutation(dense.architecture.head_dim)[:half].tolist()) for _ in range(20)
        ]
        assert turned < min(others)


def _lost(dense: DenseModel, layer: int, gram: torch.Tensor, kept: range | list[int]) -> float:
    """Energy that each KV head's omitted channels would have given on their own, summed."""
    a = dense.architecture
    output = dense.block_state(layer)[f"{dense.adapter.names.o}.weight"].double()
    gone = np.ones((a.num_heads, a.head_dim), dtype=bool)
    gone[:, list(kept)] = False
    total = 0.0
    for head in range(a.num_heads):
        places = torch.from_numpy(np.flatnonzero(gone[head]) + head * a.head_dim)
        part = output[:, places]
        total += float((part @ gram.double()[places][:, places] * part).sum())
    return total


def test_turning_back_gives_the_weights_back() -> None:
    dense = dense_model("llama-mha-biases")
    a, names = dense.architecture, dense.adapter.names
    rotation = torch.linalg.qr(torch.randn(a.num_kv_heads, a.head_dim, a.head_dim, dtype=torch.float64)).Q
    state = rotate_state(names, a, dense.block_state(0), rotation)
    back = rotate_state(names, a, state, rotation.mT)
    for kind in (f"{names.v}.weight", f"{names.v}.bias", f"{names.o}.weight"):
        assert not torch.allclose(state[kind], dense.block_state(0)[kind], atol=1e-2)
        assert torch.allclose(back[kind], dense.block_state(0)[kind], atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_importance_is_the_papers_summed_over_the_channels_of_a_unit(mode: str) -> None:
    """Equations 1-3 written out for one KV head and one rotary pair."""
    dense = dense_model("llama-gqa-tied")
    a, names, layout = dense.architecture, dense.adapter.names, dense.architecture.attention_layout(mode)
    scores = calibrate(dense, WINDOWS, scorer="importance", layout=layout, device=CPU).scores
    (layer, grams), weights = next(iter(stream_grams(dense, WINDOWS, device=CPU))), dense.block_state(0)
    assert layer == 0

    def phi(name: str, gram: torch.Tensor) -> torch.Tensor:
        damped = gram.double() + 1e-2 * gram.double().diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        return weights[f"{name}.weight"].double() ** 2 / torch.linalg.inv(2 * damped).diagonal()

    def by_channel(values: torch.Tensor) -> torch.Tensor:
        found = values.view(a.num_kv_heads, -1, a.head_dim).sum(1)
        return found / found.mean()

    q, k, v = (by_channel(phi(name, grams.attn_in.matrix).sum(1)) for name in (names.q, names.k, names.v))
    o = by_channel(phi(names.o, grams.o_in.matrix).sum(0))
    pairs = a.head_dim // 2
    expected = [
        float(sum(term[1, 2] + term[1, 2 + pairs] for term in terms))
        for terms in ([(q, k, v, o)] if mode == "head_dim" else [(q, k)])
    ]
    assert layout.of(layout.axes[0], scores.attn[0])[1, 2] == pytest.approx(expected[0], rel=1e-4)
    if mode == "head_dim_split":
        assert layout.of(layout.axes[1], scores.attn[0])[1, 5] == pytest.approx(float(v[1, 5] + o[1, 5]), rel=1e-4)


def test_heads_lose_equally_many_columns_in_every_round() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 24, generator=generator, dtype=torch.float64)
    basis = torch.randn(60, 24, generator=generator, dtype=torch.float64)
    ranks = elimination_ranks(weight, basis.T @ basis, width=2, heads=3)
    assert sorted(ranks.tolist()) == sorted([*range(4)] * 3)
    assert all(sorted(part.tolist()) == [0, 1, 2, 3] for part in ranks.view(3, 4))


def test_the_first_column_to_go_is_the_cheapest_of_its_head() -> None:
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(10, 12, generator=generator, dtype=torch.float64)
    basis = torch.randn(60, 12, generator=generator, dtype=torch.float64)
    hessian = basis.T @ basis
    ranks = elimination_ranks(weight, hessian, width=1, heads=2).view(2, 6)
    costs = (weight.square().sum(0) / torch.linalg.inv(hessian).diagonal()).view(2, 6)
    assert ranks.argmin(1).tolist() == costs.argmin(1).tolist()


@pytest.mark.parametrize("mode", MODES)
def test_with_one_mask_the_best_values_go_where_q_and_k_are_best(mode: str) -> None:
    """In mode head_dim the unit that q and k need most carries the values that matter most."""
    dense = dense_model("llama-gqa-tied")
    layout = dense.architecture.attention_layout(mode)
    calibration = calibrate(dense, WINDOWS, layout=layout, rotate=True, device=CPU)
    output = calibration.dense.block_state(0)[f"{dense.adapter.names.o}.weight"].double()
    gram = calibration.grams(0)[0].matrix.double()
    energy = output.square().sum(0) * gram.diagonal()
    a = dense.architecture
    energy = energy.view(a.num_kv_heads, -1, a.head_dim).sum(1)
    if mode == "head_dim_split":
        assert (energy.argmax(1) == 0).all()
        return
    pairs = energy[:, : a.head_dim // 2] + energy[:, a.head_dim // 2 :]
    costs = score_costs(a, calibration.score_gram(0), 1e-2)
    best = (costs[:, : a.head_dim // 2] + costs[:, a.head_dim // 2 :]).argmax(1)
    assert pairs.argmax(1).tolist() == best.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_found_again_with_their_layout(mode: str) -> None:
    dense = dense_model("opt")
    layout = dense.architecture.attention_layout(mode)
    first = calibrate(dense, WINDOWS, layout=layout, rotate=True, device=CPU)
    again = calibrate(dense, WINDOWS, layout=layout, rotate=True, device=CPU)
    assert first.scores.digest() == again.scores.digest()
    assert again.scores.layout == layout
    assert first.key != calibrate(dense, WINDOWS, layout=layout, device=CPU).key
    subnet = build_subnet(again.dense, random_genome(dense, 1, mode))
    assert subnet(torch.from_numpy(WINDOWS.tokens[:1].copy())).logits.isfinite().all()
