"""The closed form against ordinary least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.calibration import Gram, calibrate
from nas_llm.reconstruction import BlockReconstructor, closed_form
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, build_subnet

CPU = torch.device("cpu")


def _problem(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(20, 20, generator=generator, dtype=torch.float64)
    x = mix @ torch.randn(20, 200, generator=generator, dtype=torch.float64) + 0.7
    weight = torch.randn(6, 20, generator=generator, dtype=torch.float64)
    kept = np.random.default_rng(seed).random(20) < 0.6
    return x, weight, torch.randn(6, generator=generator, dtype=torch.float64), kept


def _gram(x: torch.Tensor) -> Gram:
    return Gram(x @ x.T, x.sum(1), x.shape[1])


@pytest.mark.parametrize("seed", range(5))
def test_equals_numpy_least_squares_on_the_ridge_problem(seed: int) -> None:
    x, weight, _, kept = _problem(seed)
    damping = 0.03
    refit = closed_form(weight, None, _gram(x), kept, damping=damping)
    ridge = damping * float((x @ x.T).diagonal().mean())
    # min ||W X - W' X_S||^2 + ridge ||W' - W_S||^2 as one stacked least-squares problem.
    s = kept.nonzero()[0]
    root = ridge**0.5 * np.eye(len(s))
    left = np.vstack([x.numpy()[s].T, root])
    right = np.vstack([(weight @ x).numpy().T, root @ weight.numpy()[:, s].T])
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    np.testing.assert_allclose(refit.weight.numpy(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("seed", range(5))
def test_bias_takes_up_the_mean(seed: int) -> None:
    x, weight, bias, kept = _problem(seed)
    refit = closed_form(weight, bias, _gram(x), kept, damping=1e-12)
    s = kept.nonzero()[0]
    left = np.vstack([x.numpy()[s], np.ones(x.shape[1])]).T
    right = (weight @ x + bias[:, None]).numpy().T
    expected = np.linalg.lstsq(left, right, rcond=None)[0].T
    assert refit.bias is not None
    np.testing.assert_allclose(refit.weight.numpy(), expected[:, :-1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(refit.bias.numpy(), expected[:, -1], rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_residuals_are_those_of_the_activations(seed: int) -> None:
    x, weight, _, kept = _problem(seed)
    refit = closed_form(weight, None, _gram(x), kept, damping=1e-2)
    target = weight @ x
    before = (target - weight[:, kept] @ x[kept]).square().sum() / target.square().sum()
    after = (target - refit.weight @ x[kept]).square().sum() / target.square().sum()
    assert refit.residual_before == pytest.approx(float(before))
    assert refit.residual_after == pytest.approx(float(after))
    assert refit.residual_after < refit.residual_before


def test_strong_damping_leaves_the_inherited_weights() -> None:
    x, weight, _, kept = _problem(0)
    refit = closed_form(weight, None, _gram(x), kept, damping=1e12)
    torch.testing.assert_close(refit.weight, weight[:, kept], rtol=1e-6, atol=1e-6)


def test_nothing_omitted_changes_nothing() -> None:
    x, weight, bias, _ = _problem(0)
    refit = closed_form(weight, bias, _gram(x), np.ones(20, dtype=bool), damping=1e-2)
    assert torch.equal(refit.weight, weight)
    assert refit.bias is bias
    assert refit.residual_after == 0.0


def test_a_dead_input_does_not_break_the_solve() -> None:
    x, weight, _, kept = _problem(1)
    x[kept.nonzero()[0][:3]] = 0.0
    refit = closed_form(weight, None, _gram(x), kept, damping=1e-9)
    assert torch.isfinite(refit.weight).all()
    silent = closed_form(weight, None, _gram(torch.zeros_like(x)), kept, damping=1e-2)
    torch.testing.assert_close(silent.weight, weight[:, kept])


@pytest.mark.parametrize("case", ["llama-gqa-tied", "llama-mha-biases", "opt"])
def test_a_reconstructed_block_is_closer_to_the_dense_one(case: str) -> None:
    dense, windows = dense_model(case), random_windows(count=40)
    calibration = calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU)
    genome = random_genome(dense, 1)
    # With all attention kept, the FFN of block 0 sees the dense inputs: there the refit is optimal by construction.
    genome = Genome(np.ones_like(genome.attn_mask), genome.mlp_mask)
    reconstructor = BlockReconstructor(dense, calibration, damping=1e-3, device=CPU, residuals=True)
    subnet = build_subnet(
        dense,
        genome,
        edit=lambda layer, state: reconstructor.refit(layer, state, genome.attn_mask[layer], genome.mlp_mask[layer]),
    )
    assert reconstructor.residuals
    assert all(residual.after < residual.before for residual in reconstructor.residuals)
    outer = dense.adapter.outer(dense.model)
    hidden, context = dense.adapter.embed(outer, torch.from_numpy(windows.tokens.copy()))
    blocks = [dense.adapter.layers(model)[0] for model in (dense.model, build_subnet(dense, genome), subnet)]
    exact, inherited, refitted = (block(hidden, **context) for block in blocks)
    assert (refitted - exact).square().sum() < (inherited - exact).square().sum()


def test_the_evaluator_prices_what_the_export_builds() -> None:
    dense, windows = dense_model("llama-gqa-tied"), random_windows(count=20)
    calibration = calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU)
    genomes = [random_genome(dense, seed) for seed in range(3)] + [Genome.dense(dense.architecture)]
    reconstructor = BlockReconstructor(dense, calibration, damping=1e-2, device=CPU)
    evaluator = PopulationEvaluator(
        dense, windows, metric="perplexity", device=CPU, dtype=torch.float32, reconstructor=reconstructor
    )
    ids = torch.from_numpy(windows.tokens.copy())
    for genome, value in zip(genomes, evaluator.evaluate(genomes), strict=True):
        subnet = build_subnet(
            dense,
            genome,
            edit=lambda layer, state, g=genome: reconstructor.refit(
                layer, state, g.attn_mask[layer], g.mlp_mask[layer]
            ),
        )
        assert value == pytest.approx(float(subnet(ids, labels=ids).loss.exp()), rel=1e-5)
    assert "closed_form" in evaluator.identity
