"""Blocks refitted from cached Grams: the solvers behind one interface, and the choice between dampings."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.calibration import Gram, KeptGrams, keep_grams
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel
from nas_llm.reconstruction import BlockReconstructor, BlockResidual, admm, closed_form
from nas_llm.space import Genome

CPU = torch.device("cpu")
CASES = ("llama-gqa-tied", "llama-mha-biases", "opt")
GRID = (1e-4, 1e-2, 1.0, math.inf)


def _grams(dense: DenseModel, windows: WindowSet, rows: slice = slice(None)) -> KeptGrams:
    return keep_grams(dense, dataclasses.replace(windows, tokens=windows.tokens[rows]), device=CPU)


class _Merged:
    """Grams of two texts as one."""

    key = "merged"

    def __init__(self, first: KeptGrams, second: KeptGrams) -> None:
        self._both = first, second

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        (o, fc2), (other_o, other_fc2) = (source.grams(layer) for source in self._both)
        return o.merged(other_o), fc2.merged(other_fc2)


def _refit(
    dense: DenseModel, genome: Genome, reconstructor: BlockReconstructor
) -> tuple[list[dict[str, torch.Tensor]], list[BlockResidual]]:
    layers = []
    for layer in range(dense.architecture.num_layers):
        masks = genome.attn_mask[layer], genome.mlp_mask[layer]
        sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
        layers.append(reconstructor.refit(layer, sliced, *masks))
    return layers, reconstructor.residuals


def _farthest(found: list[dict[str, torch.Tensor]], wanted: list[dict[str, torch.Tensor]]) -> float:
    """The largest relative difference of any parameter."""
    return max(
        float((state[name] - other[name]).norm() / other[name].norm().clamp_min(1e-12))
        for state, other in zip(found, wanted, strict=True)
        for name in state
    )


@pytest.mark.parametrize("case", CASES)
def test_long_admm_ends_at_the_closed_form(case: str) -> None:
    dense, genome = dense_model(case), random_genome(dense_model(case), 1)
    grams = _grams(dense, random_windows(count=40))
    options: dict[str, Any] = {"damping": 1e-2, "device": CPU, "residuals": True}
    exact, exact_residuals = _refit(dense, genome, BlockReconstructor(dense, grams, **options))
    solve = partial(admm, rho=1.0, iterations=5000)
    found, residuals = _refit(dense, genome, BlockReconstructor(dense, grams, solve=solve, label="admm", **options))
    assert _farthest(found, exact) < 1e-3
    for residual, expected in zip(residuals, exact_residuals, strict=True):
        assert residual.before == expected.before
        assert residual.after == pytest.approx(expected.after, rel=1e-3, abs=1e-9)
        assert residual.primal is not None
        assert residual.dual is not None
        assert max(residual.primal, residual.dual) < 1e-3
        assert (expected.primal, expected.dual, expected.held_out) == (None, None, None)
        assert residual.damping == expected.damping == 1e-2
    short, residuals = _refit(dense, genome, BlockReconstructor(dense, grams, solve=admm, label="admm", **options))
    assert _farthest(short, exact) > _farthest(found, exact)
    assert all(residual.after >= best.after for residual, best in zip(residuals, exact_residuals, strict=True))


@pytest.mark.parametrize("solve", [closed_form, admm])
@pytest.mark.parametrize("case", CASES)
def test_the_damping_with_the_least_held_out_residual_is_taken(case: str, solve: Any) -> None:
    dense, genome, windows = dense_model(case), random_genome(dense_model(case), 1), random_windows(count=12)
    fit, judge, both = _grams(dense, windows, slice(3, 12)), _grams(dense, windows, slice(0, 3)), _grams(dense, windows)
    merged = _Merged(fit, judge)
    options: dict[str, Any] = {"solve": solve, "device": CPU, "residuals": True, "label": "solver"}
    chosen, residuals = _refit(dense, genome, BlockReconstructor(dense, fit, damping=GRID, held_out=judge, **options))
    trials = [_refit(dense, genome, BlockReconstructor(dense, fit, damping=damping, **options))[0] for damping in GRID]
    wholes = [
        _refit(dense, genome, BlockReconstructor(dense, merged, damping=damping, **options))[0] for damping in GRID
    ]
    names = dense.adapter.names
    assert len({residual.damping for residual in residuals}) > 1
    for residual in residuals:
        layer, attention = residual.layer, residual.projection == names.o
        gram = judge.grams(layer)[0 if attention else 1]
        shape = dense.architecture
        mask = genome.attn_mask[layer].repeat(shape.heads_per_group * shape.head_dim)
        kept = torch.from_numpy(mask if attention else genome.mlp_mask[layer])
        weight = dense.block_state(layer)[f"{residual.projection}.weight"].double()
        matrix = gram.matrix.double()
        if f"{residual.projection}.bias" in dense.block_state(layer):
            matrix = matrix - torch.outer(gram.total, gram.total).double() / gram.tokens
        losses = []
        for trial in trials:
            error = weight.clone()
            error[:, kept] -= trial[layer][f"{residual.projection}.weight"].double()
            losses.append(float(((error @ matrix) * error).sum() / ((weight @ matrix) * weight).sum()))
        best = int(np.argmin(losses))
        assert residual.damping == GRID[best]
        assert residual.held_out == pytest.approx(losses[best], rel=1e-4)
        # The final weights use all windows. (Those of Grams summed in another order may be far from them: there are few
        # tokens, and small dampings make much of rounding.)
        for one, other in zip(merged.grams(layer), both.grams(layer), strict=True):
            assert float((one.matrix - other.matrix).norm() / other.matrix.norm()) < 1e-5
            assert one.tokens == other.tokens
        for name in (f"{residual.projection}.weight", f"{residual.projection}.bias"):
            if name in chosen[layer]:
                found, whole = chosen[layer][name], wholes[best][layer][name]
                assert torch.equal(found, whole)


@pytest.mark.parametrize("solve", [closed_form, admm])
def test_infinite_damping_keeps_the_inherited_weights(solve: Any) -> None:
    dense, genome = dense_model("opt"), random_genome(dense_model("opt"), 1)
    grams = _grams(dense, random_windows(count=12))
    kept, _ = _refit(dense, genome, BlockReconstructor(dense, grams, damping=math.inf, solve=solve, device=CPU))
    for layer, state in enumerate(kept):
        masks = genome.attn_mask[layer], genome.mlp_mask[layer]
        sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
        for name, value in state.items():
            # A bias still takes up the mean of what is gone.
            assert torch.equal(value, sliced[name]) or name.endswith(".bias")


def test_identities_tell_settings_apart_and_stay_what_they_were() -> None:
    dense, windows = dense_model("opt"), random_windows(count=6)
    fit, judge = _grams(dense, windows, slice(0, 4)), _grams(dense, windows, slice(4, 6))
    variants: list[dict[str, Any]] = [
        {"damping": 0.01},
        {"damping": 0.1},
        {"damping": 0.01, "label": "admm(1.0, 30)"},
        {"damping": 0.01, "dtype": torch.float32},
        {"damping": (0.01, 0.1), "held_out": judge},
        {"damping": (0.01, 0.2), "held_out": judge},
    ]
    identities = [BlockReconstructor(dense, fit, device=CPU, **options).identity for options in variants]
    assert len(set(identities)) == len(variants)
    # Evaluations in shared caches are found by it.
    assert identities[0] == f"closed_form:{fit.key}:0.01:torch.float64"


@pytest.mark.parametrize("damping", [(), (0.1, 0.2)])
def test_several_dampings_need_something_to_choose_by(damping: tuple[float, ...]) -> None:
    dense = dense_model("opt")
    with pytest.raises(ConfigError, match="need held-out text to choose one by"):
        BlockReconstructor(dense, _grams(dense, random_windows(count=2)), damping=damping, device=CPU)
