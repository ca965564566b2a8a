"""Sums over tokens against least squares on the tokens themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.reconstruction._damping import DAMPING_SCALES, choose_damping
from nas_llm.reconstruction._held_out import held_out_windows
from nas_llm.reconstruction._moments import Moments

CPU = torch.device("cpu")


def _tokens(seed: int, *, count: int = 120) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((count, 8)) @ rng.standard_normal((8, 8)) + 20.0 * rng.standard_normal(8))
    error = torch.from_numpy(rng.standard_normal((count, 3))) + 0.3 * x[:, :3] + 1.5
    return x, error, error + torch.from_numpy(rng.standard_normal((count, 3))), torch.from_numpy(rng.random(count))


def _moments(*parts: tuple[torch.Tensor, ...], bias: bool) -> Moments:
    moments = Moments(8, 3, bias=bias, device=CPU)
    for part in parts:
        moments.add(*part)
    return moments


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000), bias=st.booleans(), weighted=st.booleans(), ridge=st.sampled_from([1e-9, 1.0, 50.0])
)
def test_the_update_is_weighted_least_squares(seed: int, bias: bool, weighted: bool, ridge: float) -> None:
    x, error, target, roots = _tokens(seed)
    parts = [
        (x[rows], error[rows], target[rows], roots[rows] if weighted else None)
        for rows in (slice(0, 50), slice(50, None))
    ]
    moments = _moments(*parts, bias=bias)
    update, constant = moments.update(torch.tensor(ridge))
    scale = roots[:, None] if weighted else torch.ones(len(x), 1)
    left = np.hstack([(x * scale).numpy(), scale.numpy()]) if bias else (x * scale).numpy()
    root = np.sqrt(ridge) * np.eye(left.shape[1])[:8]
    right = np.vstack([(error * scale).numpy(), np.zeros((8, 3))])
    solution = np.linalg.lstsq(np.vstack([left, root]), right, rcond=None)[0]
    np.testing.assert_allclose(update.numpy(), solution[:8].T, rtol=1e-6, atol=1e-8)
    assert (constant is not None) == bias
    if constant is not None:
        np.testing.assert_allclose(constant.numpy(), solution[8], rtol=1e-5, atol=1e-6)
    remaining = (error * scale).numpy() - left @ solution
    energy = float((target * scale).square().sum())
    assert moments.after(update, constant) == pytest.approx(float(np.square(remaining).sum()) / energy, rel=1e-8)
    assert moments.before() == pytest.approx(float((error * scale).square().sum()) / energy)


@pytest.mark.parametrize("bias", [False, True])
def test_merging_is_adding_the_same_tokens(bias: bool) -> None:
    x, error, target, roots = _tokens(0)
    first, second = (tuple(v[rows] for v in (x, error, target, roots)) for rows in (slice(0, 70), slice(70, None)))
    merged = _moments(first, bias=bias)
    merged.merge(_moments(second, bias=bias))
    whole = _moments((x, error, target, roots), bias=bias)
    ridge = torch.tensor(0.5)
    torch.testing.assert_close(merged.update(ridge)[0], whole.update(ridge)[0], rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(merged.diagonal(), whole.diagonal(), rtol=1e-9, atol=1e-9)
    assert merged.after(*merged.update(ridge)) == pytest.approx(whole.after(*whole.update(ridge)))


def test_a_large_mean_costs_a_bias_no_precision() -> None:
    x, error, target, _ = _tokens(0, count=4000)
    far = x + 1000.0
    exact = _moments((far, error, target, None), bias=True).update(torch.tensor(1.0))[0]
    single = _moments((far.float(), error.float(), target.float(), None), bias=True).update(torch.tensor(1.0))[0]
    assert float((exact - single).norm() / exact.norm()) < 1e-3


def test_the_damping_is_the_one_that_is_best_on_the_held_out_part() -> None:
    x, error, target, _ = _tokens(1, count=16)
    train = _moments((x[:9], error[:9], target[:9], None), bias=True)
    held_out = _moments((x[9:], error[9:], target[9:], None), bias=True)
    grid = (1e-6, 1e-3, 1e-1, 10.0)
    found = {}
    for damping in grid:
        update, constant = train.update(damping * train.diagonal().mean())
        assert constant is not None
        left = error[9:] - x[9:] @ update.T - constant
        found[damping] = float(left.square().sum() / target[9:].square().sum())
    best, residual = choose_damping(train, held_out, grid, scale="mean")
    assert best == min(found, key=found.__getitem__)
    assert residual == pytest.approx(found[best])


def test_scales_of_the_diagonal() -> None:
    diagonal = torch.cat([torch.full((19,), 2.0), torch.tensor([1e6])])
    assert float(DAMPING_SCALES["median"](diagonal)) == 2.0
    assert float(DAMPING_SCALES["trimmed"](diagonal)) == 2.0
    assert float(DAMPING_SCALES["mean"](diagonal)) > 1e4


@given(count=st.integers(2, 200), fraction=st.floats(0.01, 0.9))
def test_held_out_windows_are_spread(count: int, fraction: float) -> None:
    chosen = held_out_windows(count, fraction)
    number = int(chosen.sum())
    assert 1 <= number < count
    assert abs(number - fraction * count) <= 1.0
    gaps = np.diff(np.flatnonzero(chosen))
    assert not len(gaps) or gaps.max() - gaps.min() <= 1
