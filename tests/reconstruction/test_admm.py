"""ADMM and the closed form against each other and against ordinary least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.calibration import Gram
from nas_llm.reconstruction import Refit, admm, closed_form

_SEEDS = st.integers(0, 10_000)


class Case:
    """A random refit problem whose inputs differ in scale by a factor of a thousand."""

    def __init__(self, seed: int, *, inputs: int = 12, spread: float = 3.0) -> None:
        rng = np.random.default_rng(seed)
        mix = rng.standard_normal((inputs, inputs)) + 2.0 * np.eye(inputs)
        scales = 10.0 ** rng.uniform(-spread / 2, spread / 2, (inputs, 1))
        self.x = torch.from_numpy(scales * (mix @ rng.standard_normal((inputs, 150)) + 0.5))
        self.weight = torch.from_numpy(rng.standard_normal((5, inputs)) / scales.T)
        self.bias = torch.from_numpy(rng.standard_normal(5))
        self.kept = rng.random(inputs) < 0.6
        self.kept[0], self.kept[-1] = True, False
        self.gram = Gram(self.x @ self.x.T, self.x.sum(1), self.x.shape[1])

    def least_squares(self, *, bias: bool) -> np.ndarray:
        """The refitted output on all tokens, by numpy."""
        left = self.x.numpy()[self.kept].T
        if bias:
            left = np.hstack([left, np.ones((len(left), 1))])
        right = (self.weight @ self.x).numpy().T + (self.bias.numpy() if bias else 0.0)
        return left @ np.linalg.lstsq(left, right, rcond=None)[0]

    def output(self, refit: Refit) -> np.ndarray:
        out = (refit.weight @ self.x[self.kept]).T
        return (out if refit.bias is None else out + refit.bias).numpy()


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@settings(max_examples=25, deadline=None)
@given(
    seed=_SEEDS, bias=st.booleans(), damping=st.sampled_from([1e-3, 1e-2, 1e-1]), rho=st.sampled_from([0.3, 1.0, 3.0])
)
def test_long_admm_ends_at_the_closed_form(seed: int, bias: bool, damping: float, rho: float) -> None:
    case = Case(seed)
    given_bias = case.bias if bias else None
    exact = closed_form(case.weight, given_bias, case.gram, case.kept, damping=damping)
    found = admm(case.weight, given_bias, case.gram, case.kept, damping=damping, rho=rho, iterations=4000)
    assert _relative(found.weight.numpy(), exact.weight.numpy()) < 1e-3
    assert found.residual_before == exact.residual_before
    assert found.residual_after == pytest.approx(exact.residual_after, rel=1e-3, abs=1e-9)
    if bias:
        assert found.bias is not None
        assert exact.bias is not None
        np.testing.assert_allclose(found.bias, exact.bias, rtol=1e-3, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(seed=_SEEDS, bias=st.booleans())
def test_both_reach_ordinary_least_squares_without_a_ridge(seed: int, bias: bool) -> None:
    case = Case(seed)
    expected = case.least_squares(bias=bias)
    given_bias = case.bias if bias else None
    exact = closed_form(case.weight, given_bias, case.gram, case.kept, damping=0.0)
    assert _relative(case.output(exact), expected) < 1e-8
    found = admm(case.weight, given_bias, case.gram, case.kept, damping=0.0, iterations=4000)
    assert _relative(case.output(found), expected) < 1e-3


@pytest.mark.parametrize("seed", range(5))
def test_the_papers_thirty_iterations_improve_and_the_closed_form_is_no_worse(seed: int) -> None:
    case = Case(seed)
    exact = closed_form(case.weight, None, case.gram, case.kept, damping=0.0)
    found = admm(case.weight, None, case.gram, case.kept, damping=0.0)
    assert len(found.primal) == len(found.dual) == 30
    assert found.residual_after < found.residual_before
    assert exact.residual_after <= found.residual_after * (1 + 1e-9)


def test_residuals_of_the_iteration_fall() -> None:
    case = Case(3)
    found = admm(case.weight, None, case.gram, case.kept, damping=1e-2, iterations=400)
    for history in (found.primal, found.dual):
        assert history[-1] < 1e-3 * history[0]


def test_the_scale_of_an_input_does_not_matter_to_the_iteration() -> None:
    # Without a ridge the problem is the same in any units, and normalised ADMM takes the same steps.
    case, other = Case(1), Case(1)
    units = torch.logspace(-4, 4, len(case.kept), dtype=torch.float64)
    other.weight = case.weight / units
    x = case.x * units[:, None]
    first = admm(case.weight, None, case.gram, case.kept, damping=0.0, iterations=10)
    second = admm(other.weight, None, Gram(x @ x.T, x.sum(1), x.shape[1]), case.kept, damping=0.0, iterations=10)
    torch.testing.assert_close(second.weight * units[torch.from_numpy(case.kept)], first.weight, rtol=1e-8, atol=1e-10)


def test_nothing_omitted_changes_nothing() -> None:
    case = Case(0)
    refit = admm(case.weight, case.bias, case.gram, np.ones(12, dtype=bool), damping=1e-2)
    assert torch.equal(refit.weight, case.weight)
    assert refit.bias is case.bias
    assert refit.primal == refit.dual == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dead_inputs_keep_their_weights(dtype: torch.dtype) -> None:
    case = Case(2)
    x = case.x.clone()
    x[:3] = 0.0
    refit = admm(case.weight, None, Gram(x @ x.T, x.sum(1), x.shape[1]), case.kept, damping=0.0, dtype=dtype)
    dead = torch.from_numpy(case.kept.nonzero()[0]) < 3
    torch.testing.assert_close(
        refit.weight[:, dead], case.weight[:, torch.from_numpy(case.kept)][:, dead].to(dtype), rtol=1e-5, atol=1e-6
    )
    assert torch.isfinite(refit.weight).all()
