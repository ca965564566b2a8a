"""Score Grams: the curvature of the softmax in factors of q's channels, checked by the attention weights themselves."""

from __future__ import annotations

import copy
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from dense_models import CUT_CASES, dense_model, random_windows
from torch import Tensor

from nas_llm.calibration import calibrate, score_costs, score_ranks, stream_score_grams
from nas_llm.errors import ModelError
from nas_llm.models import DenseModel
from nas_llm.reconstruction import QueryRefit, refit_queries

CPU = torch.device("cpu")
WINDOWS = random_windows(count=4)


def _every_query(dense: DenseModel) -> list[Tensor]:
    return [gram for _, gram in stream_score_grams(dense, WINDOWS, CPU, queries=WINDOWS.num_tokens)]


def _wanted(dense: DenseModel) -> Tensor:
    """Coefficients of the dense scores: ``d``."""
    a = dense.architecture
    wanted = torch.ones(a.head_dim, dtype=torch.float64)
    wanted[a.rotary_channels // 2 : a.rotary_channels] = 0.0
    return wanted


def _weights(dense: DenseModel, factors: Tensor | None) -> Tensor:
    """Attention weights of the first layer, ``H x queries x keys`` of all windows, its queries times factors."""
    a, names = dense.architecture, dense.adapter.names
    model = copy.deepcopy(dense.model)
    model.set_attn_implementation("eager")
    query = dense.adapter.layers(model)[0].get_submodule(names.q)
    if factors is not None:
        refit = QueryRefit(factors, a.rotary_channels // 2, 0.0, 0.0)
        for parameter in query.parameters():
            parameter.data = refit.apply(parameter.data)
    found = model(torch.from_numpy(WINDOWS.tokens.copy()), output_attentions=True).attentions[0]
    return found.double().transpose(0, 1).flatten(1, 2)


@pytest.mark.parametrize("case", CUT_CASES)
def test_gram_is_the_curvature_of_the_attention_weights(case: str) -> None:
    """KL between weights before and after a small change of the factors, real and imaginary parts alike."""
    dense = dense_model(case)
    a, gram = dense.architecture, _every_query(dense)[0].double()
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(a.num_heads, a.head_dim, generator=generator, dtype=torch.float64)
    size = torch.einsum("hi,hij,hj->h", change, gram, change) / 2
    change *= (1e-3 / size).sqrt()[:, None]
    before, after = _weights(dense, None), _weights(dense, _wanted(dense) + change)
    divergence = (before * (before.clamp_min(1e-30).log() - after.clamp_min(1e-30).log())).sum(-1).mean(-1)
    assert divergence == pytest.approx(1e-3, rel=0.08)


@pytest.mark.parametrize("case", ["llama-wide-heads", "opt"])
def test_what_a_double_did_its_twin_takes_over(case: str) -> None:
    """The last unit of every head is that before it once more, at nearly the same frequency: without it, twice that."""
    dense = dense_model(case)
    a, names = dense.architecture, dense.adapter.names
    half = a.rotary_channels // 2
    last = half - 1 if half else a.head_dim - 1
    for layer in dense.adapter.layers(dense.model):
        for name in (names.q, names.k):
            for parameter in layer.get_submodule(name).parameters():
                heads = parameter.data.view(-1, a.head_dim, *parameter.shape[1:])
                for channel in (last, last + half):
                    heads[:, channel] = heads[:, channel - 1]
    gram, wanted = _every_query(dense)[0], _wanted(dense)
    kept = np.ones((a.num_kv_heads, a.head_dim), dtype=bool)
    kept[:, [last, last + half]] = False
    refit = refit_queries(a, gram, kept)
    assert refit is not None
    channels = torch.from_numpy(kept).repeat_interleave(a.heads_per_group, 0)
    factors = torch.zeros(a.num_heads, a.head_dim, dtype=torch.float64)
    factors[channels] = refit.factors.flatten()
    assert ((factors[:, last - 1] > 1.8) & (factors[:, last - 1] < 2.2)).all()
    before = _weights(dense, None)
    losses = []
    for chosen in (factors, wanted * channels):
        after = _weights(dense, chosen)
        losses.append(float((before * (before.clamp_min(1e-30).log() - after.clamp_min(1e-30).log())).sum(-1).mean()))
    assert losses[0] < 0.05 * losses[1]


def test_fewer_queries_are_spread_over_the_text() -> None:
    dense = dense_model("llama-gqa-tied")
    some = [gram for _, gram in stream_score_grams(dense, WINDOWS, CPU, most_windows=2, queries=20)]
    for found, expected in zip(some, _every_query(dense), strict=True):
        # Another sample of the same thing.
        assert 0.2 < float(found.diagonal(dim1=1, dim2=2).sum() / expected.diagonal(dim1=1, dim2=2).sum()) < 5
        assert not torch.equal(found, expected)


def _left(gram: Tensor, wanted: Tensor, gone: list[int]) -> float:
    """Squared change of the scores that the best factors of the other channels leave."""
    kept = [channel for channel in range(len(wanted)) if channel not in gone]
    right = gram[kept] @ wanted
    return float(wanted @ gram @ wanted - right @ torch.linalg.solve(gram[kept][:, kept], right))


def _damped(gram: Tensor, damping: float) -> Tensor:
    return gram + damping * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mqa", "opt"])
def test_costs_are_what_the_best_refit_leaves(case: str) -> None:
    dense = dense_model(case)
    a, gram, wanted = dense.architecture, _every_query(dense)[1], _wanted(dense)
    costs = score_costs(a, gram, 1e-2)
    half = a.rotary_channels // 2
    for group in range(a.num_kv_heads):
        grams = [_damped(one, 1e-2) for one in gram[group * a.heads_per_group :][: a.heads_per_group].double()]
        for unit in range(half or a.head_dim):
            gone = [unit, unit + half] if half else [unit]
            expected = sum(_left(one, wanted, gone) for one in grams)
            assert float(costs[group, gone].sum()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mqa", "opt"])
def test_ranks_are_those_of_the_greedy_elimination(case: str) -> None:
    dense = dense_model(case)
    a, gram, wanted = dense.architecture, _every_query(dense)[2], _wanted(dense)
    ranks = score_ranks(a, gram, 1e-2)
    half = a.rotary_channels // 2
    for group in range(a.num_kv_heads):
        grams = [_damped(one, 1e-2) for one in gram[group * a.heads_per_group :][: a.heads_per_group].double()]
        gone: list[int] = []
        units = list(range(half or a.head_dim))
        for rank in range(len(units) - 1):
            losses = {
                unit: sum(_left(one, wanted, [*gone, unit, *([unit + half] if half else [])]) for one in grams)
                for unit in units
            }
            best = min(losses, key=losses.__getitem__)
            assert ranks[group, best] == rank
            units.remove(best)
            gone += [best, best + half] if half else [best]
        if half:
            assert torch.equal(ranks[group, :half], ranks[group, half:])


def test_few_pairs_are_chosen_nearly_as_well_as_by_trying_all() -> None:
    dense = dense_model("llama-wide-heads")
    a, gram, wanted = dense.architecture, _every_query(dense)[0], _wanted(dense)
    half = a.head_dim // 2
    ranks = score_ranks(a, gram, 1e-2)[:, :half]
    for group in range(a.num_kv_heads):
        grams = [_damped(one, 1e-2) for one in gram[group * a.heads_per_group :][: a.heads_per_group].double()]
        chosen = ranks[group].argsort()[:3].tolist()

        def lost(pairs: list[int], grams: list[Tensor] = grams) -> float:
            return sum(_left(one, wanted, [*pairs, *(pair + half for pair in pairs)]) for one in grams)

        tried = sorted(lost(list(pairs)) for pairs in combinations(range(half), 3))
        assert lost(chosen) <= tried[len(tried) // 10]


def test_partly_turned_heads_are_ranked_by_kind() -> None:
    dense = dense_model("llama-wide-heads")
    shape = copy.copy(dense.architecture)
    object.__setattr__(shape, "rotary_dim", 8)
    assert shape.rotary_channels == 8
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(shape.num_heads, 40, shape.head_dim, generator=generator)
    gram = basis.transpose(1, 2) @ basis
    ranks = score_ranks(shape, gram, 1e-2)
    for row in ranks.tolist():
        assert row[:4] == row[4:8]
        assert sorted(row[:4]) == list(range(4))
        assert sorted(row[8:]) == list(range(8))
    assert (score_costs(shape, gram, 1e-2) > 0).all()


def test_attention_that_cannot_be_watched_is_refused() -> None:
    dense = dense_model("llama-gqa-tied")
    for layer in dense.adapter.layers(dense.model):
        layer.self_attn.config = SimpleNamespace(_attn_implementation="sdpa")
    layout = dense.architecture.attention_layout("head_dim_split")
    with pytest.raises(ModelError, match="'llama' does not go through transformers' attention interface"):
        calibrate(dense, random_windows(seed=11, count=3), layout=layout, device=CPU)
