"""Factors of queries whose heads lost channels."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.calibration import keep_grams, stream_score_grams
from nas_llm.reconstruction import BlockReconstructor, QueryRefit, SequentialReconstructor, refit_queries
from nas_llm.space import Architecture

CPU = torch.device("cpu")
WINDOWS = random_windows(count=24)
CASES = ("llama-gqa-tied", "llama-mha-biases", "llama-wide-heads", "opt")


def _partly_turned(shape: Architecture) -> Architecture:
    shape = copy.copy(shape)
    object.__setattr__(shape, "rotary_dim", shape.head_dim // 2)
    return shape


def _kept(shape: Architecture, rng: np.random.Generator) -> np.ndarray:
    """``K x d`` channels: two pairs and three other channels of every head, as far as there are such."""
    pairs, kept = shape.rotary_channels // 2, np.zeros((shape.num_kv_heads, shape.head_dim), dtype=bool)
    for row in kept:
        chosen = rng.permutation(pairs)[:2]
        row[chosen] = row[chosen + pairs] = True
        row[2 * pairs + rng.permutation(shape.head_dim - 2 * pairs)[:3]] = True
    return kept


@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_factors_are_least_squares_with_a_ridge(case: str, partly: bool) -> None:
    dense = dense_model(case)
    shape = _partly_turned(dense.architecture) if partly and case != "opt" else dense.architecture
    gram = next(gram for _, gram in stream_score_grams(dense, WINDOWS, CPU))
    kept = _kept(shape, np.random.default_rng(0))
    kept[0] = False
    refit = refit_queries(shape, gram, kept)
    assert refit is not None
    wanted = np.ones(shape.head_dim)
    wanted[shape.rotary_channels // 2 : shape.rotary_channels] = 0.0
    row, lost = 0, np.zeros(3)
    for head in range(shape.heads_per_group, shape.num_heads):
        places = np.flatnonzero(kept[head // shape.heads_per_group])
        own = gram[head].double().numpy()
        values, vectors = np.linalg.eigh(own)
        root = (vectors * np.sqrt(values.clip(0))).T
        ridge = np.sqrt(1e-2 * own.diagonal().mean())
        left = np.concatenate([root[:, places], ridge * np.eye(len(places))])
        right = np.concatenate([root @ wanted, ridge * wanted[places]])
        expected = np.linalg.lstsq(left, right, rcond=None)[0]
        assert refit.factors[row].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        gone, changed = wanted.copy(), wanted.copy()
        gone[places] = 0.0
        changed[places] -= expected
        lost += [gone @ own @ gone, changed @ own @ changed, wanted @ own @ wanted]
        row += 1
    assert row == len(refit.factors)
    assert refit.residual_before == pytest.approx(lost[0] / lost[2], rel=1e-4)
    assert refit.residual_after == pytest.approx(lost[1] / lost[2], rel=1e-3)
    assert refit.residual_after < refit.residual_before


def test_factors_go_through_the_rotation() -> None:
    """Two pairs and a plain channel of one head: the scores are the weighed parts, whatever the positions."""
    rng = np.random.default_rng(1)
    factors = rng.normal(size=5)
    query, key = rng.normal(size=(2, 5))
    angles = rng.normal(size=(2, 2))

    def turned(rows: np.ndarray, by: np.ndarray) -> tuple[np.ndarray, float]:
        return (rows[:2] + 1j * rows[2:4]) * np.exp(1j * by), rows[4]

    (q, q_rest), (k, k_rest) = turned(query, angles[0]), turned(key, angles[1])
    product = q * k.conj()
    expected = factors[:2] @ product.real + factors[2:4] @ product.imag + factors[4] * q_rest * k_rest
    changed = QueryRefit(torch.from_numpy(factors)[None], 2, 0.0, 0.0).apply(torch.from_numpy(query)[:, None])[:, 0]
    q, q_rest = turned(changed.numpy(), angles[0])
    assert (q * k.conj()).real.sum() + q_rest * k_rest == pytest.approx(expected)


def test_whole_heads_need_none() -> None:
    dense = dense_model("llama-gqa-tied")
    gram = next(gram for _, gram in stream_score_grams(dense, WINDOWS, CPU))
    kept = np.ones((dense.architecture.num_kv_heads, dense.architecture.head_dim), dtype=bool)
    assert refit_queries(dense.architecture, gram, kept) is None
    kept[1] = False
    assert refit_queries(dense.architecture, gram, kept) is None


def test_a_sequential_refit_begins_with_them() -> None:
    dense = dense_model("llama-mha-biases")
    genome = random_genome(dense, 1, "head_dim_split")
    names, refit = dense.adapter.names, SequentialReconstructor
    plain = refit(dense, WINDOWS, start="closed_form", refit_inputs=False, damping=1e-2, device=CPU).reconstruct(genome)
    block = BlockReconstructor(dense, keep_grams(dense, WINDOWS, device=CPU), damping=1e-2, device=CPU)
    seen = 0
    for layer in range(genome.num_layers):
        masks = genome.attn_mask[layer], genome.mlp_mask[layer]
        sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
        expected, found = block.refit(layer, sliced, *masks), plain.edit(layer, sliced)
        for kind in ("weight", "bias"):
            key = f"{names.q}.{kind}"
            if key in sliced:
                assert torch.equal(found[key], expected[key])
                seen += not torch.equal(found[key], sliced[key])
    assert seen
    turned = refit(dense, WINDOWS, start="closed_form", refit_inputs=True, damping=1e-2, device=CPU).reconstruct(genome)
    assert any(f"{names.q}.weight" in layer for layer in turned.layers)
