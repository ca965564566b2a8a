"""Scores against formulas and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_windows

from nas_llm.calibration import calibrate, damped, elimination_ranks, importance, stream_grams
from nas_llm.errors import ConfigError

CPU = torch.device("cpu")


def _removal_error(weight: torch.Tensor, hessian: torch.Tensor, gone: list[int]) -> float:
    """min over W' of ||(W - W') L||^2 with the columns ``gone`` of W' zero, by an ordinary least-squares solver."""
    kept = [column for column in range(hessian.shape[0]) if column not in gone]
    root = torch.linalg.cholesky(hessian).T
    target = root @ weight.T
    best = torch.linalg.lstsq(root[:, kept], target).solution
    return float((target - root[:, kept] @ best).square().sum())


def _problem(seed: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(columns, 3 * columns, generator=generator, dtype=torch.float64)
    x = torch.randn(columns, columns, generator=generator, dtype=torch.float64) @ x
    return torch.randn(5, columns, generator=generator, dtype=torch.float64), damped(x @ x.T, 1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_elimination_removes_the_column_that_costs_least_after_refitting(seed: int) -> None:
    weight, hessian = _problem(seed, 7)
    ranks = elimination_ranks(weight, hessian, width=1).tolist()
    gone: list[int] = []
    for step in range(6):
        errors = {c: _removal_error(weight, hessian, [*gone, c]) for c in range(7) if c not in gone}
        gone.append(min(errors, key=lambda column: errors[column]))
        assert ranks.index(step) == gone[-1]


@pytest.mark.parametrize("seed", range(5))
def test_elimination_of_groups_removes_the_cheapest_group(seed: int) -> None:
    weight, hessian = _problem(seed, 12)
    ranks = elimination_ranks(weight, hessian, width=3).tolist()
    first = [_removal_error(weight, hessian, list(range(3 * group, 3 * group + 3))) for group in range(4)]
    assert ranks.index(0) == int(np.argmin(first))
    assert sorted(ranks) == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(3))
def test_elimination_in_blocks_costs_little_more_than_one_at_a_time(seed: int) -> None:
    weight, hessian = _problem(seed, 64)
    single = elimination_ranks(weight, hessian, width=1)
    blocks = elimination_ranks(weight, hessian, width=1, at_once=8)
    assert sorted(blocks.tolist()) == list(range(64))
    chance = torch.randperm(64, generator=torch.Generator().manual_seed(seed)).double()
    exact, fast, random = (
        _removal_error(weight, hessian, (ranks < 32).nonzero()[:, 0].tolist()) for ranks in (single, blocks, chance)
    )
    assert exact <= fast < 0.5 * (exact + random)


def test_importance_is_equations_one_to_three() -> None:
    dense = dense_model("llama-gqa-tied")
    layer, grams = next(stream_grams(dense, random_windows(count=8), device=CPU))
    weights = dense.adapter.layers(dense.model)[layer].state_dict()
    attn, mlp = importance(dense, weights, grams, damping=1e-2)

    def phi(name: str, gram: torch.Tensor) -> torch.Tensor:
        inverse = torch.linalg.inv(2 * damped(gram, 1e-2))
        return weights[f"{name}.weight"].double() ** 2 / inverse.diagonal()

    down, up, gate = (
        phi("mlp.down_proj", grams.fc2_in.matrix),
        phi("mlp.up_proj", grams.mlp_in.matrix),
        phi("mlp.gate_proj", grams.mlp_in.matrix),
    )
    terms = [down.sum(0), up.sum(1), gate.sum(1)]
    torch.testing.assert_close(mlp, sum((t / t.mean() for t in terms), torch.zeros(())).double(), rtol=1e-6, atol=1e-9)
    rows = [phi(f"self_attn.{p}_proj", grams.attn_in.matrix).sum(1) for p in "qkv"]
    rows.append(phi("self_attn.o_proj", grams.o_in.matrix).sum(0))
    grouped = [row.view(3, -1).sum(1) for row in rows]
    expected = sum((g / g.mean() for g in grouped), torch.zeros(())).double()
    torch.testing.assert_close(attn, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scorer", ["importance", "obs"])
def test_a_unit_without_influence_is_scored_lowest(scorer: str) -> None:
    dense = dense_model("llama-gqa-tied")
    names = dense.adapter.names
    for block in dense.adapter.layers(dense.model):
        block.get_submodule(names.fc2).weight.data[:, 17] = 0.0
        block.get_submodule(names.o).weight.data[:, 16:32] = 0.0
        for name in (*names.fc1, names.q, names.k, names.v):
            width = {names.q: slice(16, 32), names.k: slice(8, 16), names.v: slice(8, 16)}.get(name, slice(17, 18))
            block.get_submodule(name).weight.data[width] = 0.0
    calibration = calibrate(dense, random_windows(count=8), scorer=scorer, damping=1e-2, device=CPU)
    assert (calibration.scores.attn.argmin(1) == 1).all()
    assert (calibration.scores.mlp.argmin(1) == 17).all()


def test_calibration_is_found_again_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, windows = dense_model("opt", seed=5), random_windows(count=4, seed=9)
    done: list[int] = []
    first = calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU, on_layer=done.append)
    assert done == list(range(5))
    again = calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU, on_layer=done.append)
    assert done == list(range(5))
    assert again.key == first.key
    assert again.scores.digest() == first.scores.digest()
    others = [
        calibrate(dense, windows, scorer="importance", damping=1e-2, device=CPU),
        calibrate(dense, windows, scorer="obs", damping=1e-1, device=CPU),
        calibrate(dense, random_windows(count=4, seed=8), scorer="obs", damping=1e-2, device=CPU),
    ]
    assert len({first.key, *(other.key for other in others)}) == 4


def test_kept_grams_are_those_of_the_stream() -> None:
    dense, windows = dense_model("opt"), random_windows(count=4)
    calibration = calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU)
    for layer, grams in stream_grams(dense, windows, device=CPU):
        o_in, fc2_in = calibration.grams(layer)
        assert torch.equal(o_in.matrix, grams.o_in.matrix)
        assert torch.equal(fc2_in.total, grams.fc2_in.total)
        assert fc2_in.tokens == windows.num_tokens


def test_unknown_scorer_is_named() -> None:
    with pytest.raises(ConfigError, match="'magnitude'.*importance, obs"):
        calibrate(dense_model("opt"), random_windows(), scorer="magnitude", damping=1e-2, device=CPU)


def test_elimination_handles_every_split() -> None:
    weight, hessian = _problem(3, 12)
    for width, at_once in itertools.product((1, 2, 3, 12), (1, 5, 100)):
        ranks = elimination_ranks(weight, hessian, width=width, at_once=at_once)
        assert sorted(ranks.tolist()) == list(range(12 // width))
