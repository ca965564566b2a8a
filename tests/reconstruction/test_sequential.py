"""Sequential reconstruction against the same done the slow way, and its promises about memory and order."""

from __future__ import annotations

import dataclasses
import math
import os
import resource
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from weakref import finalize

import numpy as np
import pytest
import torch
from dense_models import dense_model, random_genome, random_windows
from sequential_oracle import objective, sequential_oracle
from torch.utils._python_dispatch import TorchDispatchMode

from nas_llm.calibration import calibrate
from nas_llm.errors import ConfigError, ModelError
from nas_llm.models import DenseModel
from nas_llm.reconstruction import (
    BlockReconstructor,
    Reconstruction,
    SequentialReconstructor,
    SequentialResidual,
    TokenWeights,
)
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet

CPU = torch.device("cpu")
CASES = ("llama-gqa-tied", "llama-mha-biases", "opt", "opt-post-norm")


def _double(case: str) -> DenseModel:
    dense = dense_model(case)
    torch.nn.Module.double(dense.model)
    return dense


# Full steps from the inherited weights, every token alike: what the oracles compute.
TEXTBOOK: dict[str, Any] = {
    "step": 1.0,
    "blend": 1.0,
    "start": "inherited",
    "tokens": TokenWeights(relative=False),
    "refit_inputs": False,
    "batch_tokens": 4096,
}


def _reconstructor(dense: DenseModel, windows: Any = None, **options: Any) -> SequentialReconstructor:
    return SequentialReconstructor(dense, windows or random_windows(count=40), device=CPU, **{**TEXTBOOK, **options})


def _assert_same(first: Reconstruction, second: Reconstruction, *, tolerance: float = 0.0) -> None:
    for one, other in zip(first.layers, second.layers, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            if tolerance:
                assert float((one[name] - other[name]).norm() / one[name].norm()) < tolerance, name
            else:
                assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize(
    ("target", "mode"),
    [("sublayer", "kv_group"), ("residual", "kv_group"), (0.5, "kv_group"), (0.5, "head_dim"), (0.5, "head_dim_split")],
)
@pytest.mark.parametrize("case", CASES)
def test_equals_numpy_least_squares_on_whole_models(case: str, target: str | float, mode: str) -> None:
    dense, windows, genome = _double(case), random_windows(count=40), random_genome(dense_model(case), 4, mode)
    share = {"sublayer": 0.0, "residual": 1.0}.get(str(target), 0.5)
    expected = sequential_oracle(dense, windows, genome, share=share, damping=1e-2)
    found = _reconstructor(
        dense, windows, target=target, damping=1e-2, dtype=torch.float64, hidden_dtype=torch.float64
    ).reconstruct(genome)
    compared = 0
    for layer, wanted in enumerate(expected):
        for name, value in found.layers[layer].items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-6, atol=1e-7)
            compared += 1
        # What is not refitted has the dense model's own inputs, so the oracle leaves it as it is.
        assert found.layers[layer].keys() <= wanted.keys()
    assert compared >= 5


@pytest.mark.parametrize("case", CASES)
def test_first_projections_are_refitted_as_numpy_does_it(case: str) -> None:
    dense, windows, genome = _double(case), random_windows(count=40), random_genome(dense_model(case), 4)
    expected = sequential_oracle(dense, windows, genome, share=1.0, damping=1e-2, inputs_damping=1e-2)
    found = _reconstructor(
        dense, windows, damping=1e-2, refit_inputs=True, dtype=torch.float64, hidden_dtype=torch.float64
    ).reconstruct(genome)
    names = {name for layer in found.layers for name in layer}
    assert f"{dense.adapter.names.q}.weight" in names
    assert f"{dense.adapter.names.fc1[0]}.weight" in names
    for layer, wanted in enumerate(expected):
        for name, value in found.layers[layer].items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("case", CASES)
def test_inputs_that_are_not_kept_are_computed_again(case: str, tmp_path: Path) -> None:
    dense, genome = dense_model(case), random_genome(dense_model(case), 3)
    kept, again = (
        _reconstructor(dense, refit_inputs=True, budget_bytes=budget, offload_dir=tmp_path).reconstruct(genome)
        for budget in (1 << 30, 0)
    )
    _assert_same(kept, again)


def test_hidden_states_stay_on_a_device_that_has_room(tmp_path: Path) -> None:
    dense, genome = dense_model("opt"), random_genome(dense_model("opt"), 3)
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder")
    size = 4 * 40 * 24 * dense.architecture.hidden_size * 2
    there = _reconstructor(dense, budget_bytes=0, device_budget_bytes=size, offload_dir=nowhere)
    _assert_same(there.reconstruct(genome), _reconstructor(dense).reconstruct(genome))
    with pytest.raises(ModelError, match="hidden states cannot be kept in"):
        _reconstructor(dense, budget_bytes=0, device_budget_bytes=size - 1, offload_dir=nowhere).reconstruct(genome)


@pytest.mark.parametrize("case", CASES)
def test_float32_is_close_to_float64(case: str) -> None:
    genome = random_genome(dense_model(case), 1)
    exact = _reconstructor(_double(case), dtype=torch.float64, hidden_dtype=torch.float64).reconstruct(genome)
    single = _reconstructor(dense_model(case)).reconstruct(genome)
    for one, other in zip(exact.layers, single.layers, strict=True):
        for name in one:
            assert other[name].dtype == torch.float32
            assert float((one[name] - other[name]).norm() / one[name].norm()) < 1e-3


@pytest.mark.parametrize("target", ["sublayer", "residual"])
@pytest.mark.parametrize("case", CASES)
def test_no_worse_than_block_by_block_in_its_own_objective(case: str, target: str) -> None:
    dense, windows = _double(case), random_windows(count=40)
    genome = random_genome(dense_model(case), 1)
    found = _reconstructor(
        dense, windows, target=target, damping=1e-10, dtype=torch.float64, hidden_dtype=torch.float64
    ).reconstruct(genome)
    alone = BlockReconstructor(
        dense, calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU), damping=1e-10, device=CPU
    )
    layers = [dict(state) for state in found.layers]
    share = {"sublayer": 0.0, "residual": 1.0}[target]
    for residual in found.residuals:
        attention = residual.projection == dense.adapter.names.o
        y, there = objective(dense, windows, genome, layers, residual.layer, attention=attention, share=share)
        sequential = float((y - there.outputs).square().sum())
        assert residual.after == pytest.approx(sequential / float(y.square().sum()), rel=1e-6, abs=1e-12)
        sliced = dense.adapter.layers(build_subnet(dense, genome))[residual.layer].state_dict()
        own = alone.refit(residual.layer, sliced, genome.attn_mask[residual.layer], genome.mlp_mask[residual.layer])
        output = there.inputs @ own[f"{residual.projection}.weight"].T
        if f"{residual.projection}.bias" in own:
            output = output + own[f"{residual.projection}.bias"]
        assert sequential <= float((y - output).square().sum()) * (1 + 1e-6)
        assert residual.after <= residual.before * (1 + 1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_dense_genome_stays_the_dense_model(case: str) -> None:
    dense = dense_model(case)
    result = _reconstructor(dense).reconstruct(Genome.dense(dense.architecture))
    assert result.residuals == ()
    assert all(not layer for layer in result.layers)


@pytest.mark.parametrize("target", ["sublayer", "residual"])
def test_a_full_sublayer_with_dense_inputs_is_refitted_to_itself(target: str) -> None:
    # Channels that never fire are removed: everything behind them is full and sees what the dense model sees.
    dense = dense_model("llama-gqa-tied")
    genome = Genome.dense(dense.architecture)
    mlp = genome.mlp_mask.copy()
    mlp[0, :7] = False
    dense.adapter.layers(dense.model)[0].get_submodule(dense.adapter.names.fc2).weight.data[:, :7] = 0.0
    result = _reconstructor(dense, target=target).reconstruct(Genome(genome.attn_mask, mlp))
    assert len(result.residuals) == 2 * dense.architecture.num_layers - 1
    for layer, block in enumerate(dense.adapter.layers(dense.model)):
        for name, value in result.layers[layer].items():
            weight = block.state_dict()[name]
            expected = weight[:, 7:] if layer == 0 else weight
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_full_sublayers_can_be_left_alone() -> None:
    dense = dense_model("llama-gqa-tied")
    full = Genome.dense(dense.architecture)
    mlp = full.mlp_mask.copy()
    mlp[1, ::2] = mlp[3, ::3] = False
    result = _reconstructor(dense, refit_full=False).reconstruct(Genome(full.attn_mask, mlp))
    assert [(r.layer, r.projection) for r in result.residuals] == [
        (1, dense.adapter.names.fc2),
        (3, dense.adapter.names.fc2),
    ]


@pytest.mark.parametrize("case", CASES)
def test_the_subnet_is_closer_to_the_dense_model_than_block_by_block(case: str) -> None:
    dense, windows, genome = dense_model(case), random_windows(count=60), random_genome(dense_model(case), 2)
    ids = torch.from_numpy(windows.tokens.copy())
    sequential = _reconstructor(dense, windows, damping=1e-3).reconstruct(genome)
    alone = BlockReconstructor(
        dense, calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU), damping=1e-3, device=CPU
    )

    def distance(edit: Callable[[int, dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None) -> float:
        with torch.no_grad():
            logits = [model(ids).logits for model in (dense.model, build_subnet(dense, genome, edit=edit))]
        return float((logits[0] - logits[1]).square().mean())

    separate = distance(lambda i, state: alone.refit(i, state, genome.attn_mask[i], genome.mlp_mask[i]))
    assert distance(sequential.edit) < separate < distance(None)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_several_subnets_in_one_pass_are_as_one_by_one(case: str) -> None:
    dense = dense_model(case)
    genomes = [random_genome(dense, seed) for seed in range(3)] + [Genome.dense(dense.architecture)]
    reconstructor = _reconstructor(dense, damping=(1e-3, 1e-1))
    seen: list[tuple[int, int]] = []
    together = reconstructor.reconstruct_many(genomes, on_layer=lambda layer, new: seen.append((layer, len(new))))
    for genome, result in zip(genomes, together, strict=True):
        assert result.genome is genome
        _assert_same(result, reconstructor.reconstruct(genome))
    assert [layer for layer, _ in seen] == list(range(dense.architecture.num_layers))
    assert sum(count for _, count in seen) == sum(len(result.residuals) for result in together)
    assert reconstructor.reconstruct_many([]) == []


def test_files_hold_the_same_hidden_states_as_memory(tmp_path: Path) -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 1)
    for kept in (torch.float32, torch.bfloat16):
        in_memory = _reconstructor(dense, hidden_dtype=kept).reconstruct(genome)
        found: list[int] = []

        def look(layer: int, new: object, found: list[int] = found) -> None:
            assert not list(tmp_path.iterdir()), "a process that is killed now leaves files behind"
            found.append(_open_bytes(tmp_path))

        in_files = _reconstructor(dense, hidden_dtype=kept, budget_bytes=0, offload_dir=tmp_path).reconstruct(
            genome, on_layer=look
        )
        _assert_same(in_memory, in_files)
        assert in_memory.residuals == in_files.residuals
        assert found[-1] == 2 * 40 * 24 * 48 * kept.itemsize
        assert not list(tmp_path.iterdir())


def _open_bytes(folder: Path) -> int:
    """Bytes of the files in a folder that this process holds open, with or without a name."""
    total = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the listing's own
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder)):
                total += os.fstat(int(descriptor)).st_size
    return total


def test_a_disk_that_takes_no_files_is_an_error_of_one_line(tmp_path: Path) -> None:
    dense = dense_model("opt")
    reconstructor = _reconstructor(dense, budget_bytes=0, offload_dir=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(ModelError, match="hidden states cannot be kept in .*File too large; make room there"):
            reconstructor.reconstruct(random_genome(dense, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("batch_tokens", [100, 1])
@pytest.mark.parametrize("case", CASES)
def test_the_batch_size_changes_nothing_but_rounding(case: str, batch_tokens: int) -> None:
    genome = random_genome(dense_model(case), 1)
    options: dict[str, Any] = {
        "damping": (1e-2, 1e-1),
        "tokens": TokenWeights(skip_positions=1, max_norm=1.2, relative=False),
    }
    exact: dict[str, Any] = {"dtype": torch.float64, "hidden_dtype": torch.float64}
    whole, parts = (
        _reconstructor(_double(case), batch_tokens=size, **exact, **options).reconstruct(genome)
        for size in (4096, batch_tokens)
    )
    _assert_same(whole, parts, tolerance=1e-9)
    whole, parts = (
        _reconstructor(dense_model(case), batch_tokens=size, **options).reconstruct(genome)
        for size in (4096, batch_tokens)
    )
    # Rounding in float32 grows from layer to layer, for each refit depends on all before it.
    first = whole.residuals[0]
    for name, value in whole.layers[first.layer].items():
        if name.startswith(first.projection):
            assert float((value - parts.layers[first.layer][name]).norm() / value.norm()) < 1e-5
    for one, other in zip(whole.residuals, parts.residuals, strict=True):
        assert one.after == pytest.approx(other.after, rel=1e-3)
        assert one.damping == other.damping


def test_is_deterministic_and_leaves_random_states_and_model_alone() -> None:
    dense = dense_model("opt")
    genome = random_genome(dense, 1)
    weights = {name: value.clone() for name, value in dense.model.state_dict().items()}
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, second = (_reconstructor(dense).reconstruct(genome) for _ in range(2))
    _assert_same(first, second)
    assert first.residuals == second.residuals
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    assert all(torch.equal(value, weights[name]) for name, value in dense.model.state_dict().items())


def test_the_identity_tells_settings_apart() -> None:
    dense = dense_model("llama-gqa-tied")
    variants: list[dict[str, Any]] = [
        {},
        {"target": "sublayer"},
        {"damping": 1e-3},
        {"step": 0.5},
        {"blend": 0.5},
        {"damping": (1e-2, 1e-3)},
        {"scale": "median"},
        {"tokens": TokenWeights(skip_positions=1, relative=False)},
        {"tokens": TokenWeights(relative=True)},
        {"refit_full": False},
        {"refit_inputs": True},
        {"windows": random_windows(count=41)},
    ]
    identities = {_reconstructor(dense, **options).identity for options in variants}
    assert len(identities) == len(variants)
    assert _reconstructor(dense).identity == _reconstructor(dense, target=1.0, batch_tokens=64).identity


def test_the_damping_with_the_least_held_out_residual_is_taken() -> None:
    dense, windows = dense_model("llama-gqa-tied"), random_windows(count=12)
    genome = random_genome(dense, 1)
    grid = (1e-4, 1e-2, 1.0)
    chosen = _reconstructor(dense, windows, damping=grid, validation=0.25).reconstruct(genome)
    assert {residual.damping for residual in chosen.residuals} <= set(grid)
    # Of the first projection the alternatives can be had by calling with one damping on the training windows only.
    first = chosen.residuals[0]
    assert first.held_out is not None
    held_out = np.zeros(12, dtype=bool)
    held_out[[2, 6, 10]] = True
    train = dataclasses.replace(windows, tokens=windows.tokens[~held_out])
    test = dataclasses.replace(windows, tokens=windows.tokens[held_out])
    attention = first.projection == dense.adapter.names.o
    losses = []
    for damping in grid:
        refit = _reconstructor(dense, train, damping=damping).reconstruct(genome)
        layers = [{} for _ in range(genome.num_layers)]
        layers[first.layer] = {k: v for k, v in refit.layers[first.layer].items() if k.startswith(first.projection)}
        y, there = objective(dense, test, genome, layers, first.layer, attention=attention, share=1.0)
        losses.append(float((y - there.outputs).square().sum() / y.square().sum()))
    assert first.damping == grid[int(np.argmin(losses))]
    assert first.held_out == pytest.approx(min(losses), rel=1e-3)
    # The final weights use all windows.
    single = _reconstructor(dense, windows, damping=first.damping).reconstruct(genome)
    name = f"{first.projection}.weight"
    torch.testing.assert_close(chosen.layers[first.layer][name], single.layers[first.layer][name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_infinite_damping_keeps_the_inherited_weights(case: str) -> None:
    dense, genome = dense_model(case), random_genome(dense_model(case), 1)
    result = _reconstructor(dense, damping=math.inf).reconstruct(genome)
    inherited = build_subnet(dense, genome)
    for layer, block in enumerate(dense.adapter.layers(inherited)):
        for name, value in result.layers[layer].items():
            # A bias carries no ridge.
            assert torch.equal(value, block.state_dict()[name]) == name.endswith("weight")
    few = _reconstructor(dense, random_windows(count=4), damping=(1e-4, math.inf), validation=0.5).reconstruct(genome)
    assert math.inf in {residual.damping for residual in few.residuals}
    assert all(residual.after <= residual.before * (1 + 1e-9) for residual in few.residuals)


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_a_step_makes_its_share_of_each_update(case: str) -> None:
    dense, genome = _double(case), random_genome(dense_model(case), 1)
    inherited = {
        f"{layer}.{name}": value
        for layer, block in enumerate(dense.adapter.layers(build_subnet(dense, genome)))
        for name, value in block.state_dict().items()
    }
    results = [_reconstructor(dense, step=step).reconstruct(genome) for step in (1.0, 0.25)]
    full, quarter = (
        {f"{layer}.{name}": value for layer, found in enumerate(result.layers) for name, value in found.items()}
        for result in results
    )
    assert full.keys() == quarter.keys()
    # Up to the first refit both have the same inputs; after it they part.
    first = results[0].residuals[0]
    for name, value in full.items():
        if name.startswith(f"{first.layer}.{first.projection}."):
            torch.testing.assert_close(quarter[name], torch.lerp(inherited[name], value, 0.25))
    small, large = (sum(float((found[k] - inherited[k]).norm()) for k in found) for found in (quarter, full))
    assert 0 < small < large
    # ||E - s U X||^2 of the made update, which is convex in s: no worse than before, no better than the full step.
    assert results[0].residuals[0].after < results[1].residuals[0].after < results[1].residuals[0].before


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_a_blend_is_the_average_of_the_start_and_the_result(case: str) -> None:
    dense, genome = _double(case), random_genome(dense_model(case), 1)
    blocks = dense.adapter.layers(build_subnet(dense, genome))
    made, blended = (
        _reconstructor(dense, step=0.5, blend=blend, refit_inputs=True).reconstruct(genome) for blend in (1.0, 0.7)
    )
    assert made.residuals == blended.residuals
    for block, full, part in zip(blocks, made.layers, blended.layers, strict=True):
        inherited = block.state_dict()
        assert full.keys() == part.keys()
        for name, value in full.items():
            torch.testing.assert_close(part[name], torch.lerp(inherited[name], value, 0.7))


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_starts_from_another_refit_and_is_pulled_towards_it(case: str) -> None:
    dense, windows, genome = _double(case), random_windows(count=40), random_genome(dense_model(case), 1)
    start = BlockReconstructor(
        dense, calibrate(dense, windows, scorer="obs", damping=1e-2, device=CPU), damping=1e-2, device=CPU
    )
    exact: dict[str, Any] = {"dtype": torch.float64, "hidden_dtype": torch.float64}
    kept = _reconstructor(dense, windows, damping=math.inf, start=start, **exact).reconstruct(genome)
    weights = [block.state_dict() for block in dense.adapter.layers(build_subnet(dense, genome))]
    for layer, found in enumerate(kept.layers):
        own = start.refit(layer, weights[layer], genome.attn_mask[layer], genome.mlp_mask[layer])
        for name, value in found.items():
            assert not name.endswith("weight") or torch.equal(value, own[name])
    # Without a ridge, it does not matter where the solve starts.
    here, there = (
        _reconstructor(dense, windows, damping=1e-12, start=origin, **exact).reconstruct(genome)
        for origin in (start, None)
    )
    for one, other in zip(here.residuals[:3], there.residuals[:3], strict=True):
        assert one.after == pytest.approx(other.after, rel=1e-3)
        assert one.before < other.before or one.layer > 0
    identities = {_reconstructor(dense, windows, start=origin).identity for origin in (start, None)}
    assert len(identities) == 2


def test_skipped_positions_do_not_count() -> None:
    dense, genome = dense_model("opt"), random_genome(dense_model("opt"), 1)
    base = _reconstructor(dense).reconstruct(genome)
    skipping = _reconstructor(dense, tokens=TokenWeights(skip_positions=5, relative=False)).reconstruct(genome)
    first = base.residuals[0]
    name = f"{first.projection}.weight"
    assert not torch.equal(base.layers[first.layer][name], skipping.layers[first.layer][name])


def test_token_weights() -> None:
    inputs = torch.ones(2, 5, 3)
    inputs[0, 1] *= 10.0
    assert TokenWeights(relative=False).roots(inputs, inputs) is None
    torch.testing.assert_close(
        TokenWeights(skip_positions=1, max_norm=2.0, relative=False).roots(inputs, inputs),
        torch.tensor([[0.0, 0.2, 1.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0, 1.0]]),
    )
    stream = torch.full((2, 5, 4), 2.0)
    stream[1, 2] *= 100.0
    torch.testing.assert_close(
        TokenWeights(skip_positions=1, relative=True).roots(inputs, stream),
        torch.tensor([[0.0, 0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.005, 0.5, 0.5]]),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "output"}, "unknown target 'output'"),
        ({"target": 1.5}, "between 0"),
        ({"damping": ()}, "damping"),
        ({"damping": -1.0}, "damping"),
        ({"damping": (1e-2, math.nan)}, "damping"),
        ({"step": 0.0}, "step must be above 0 and at most 1, got 0"),
        ({"step": 1.5}, "step must be above 0 and at most 1, got 1.5"),
        ({"blend": 0.0}, "blend must be above 0 and at most 1, got 0"),
        ({"start": "nowhere"}, "unknown start 'nowhere'; known are closed_form, inherited"),
        ({"scale": "max"}, "unknown damping scale 'max'"),
        ({"damping": (1e-2, 1e-3), "validation": 0.0}, "validation"),
        ({"tokens": TokenWeights(skip_positions=24)}, "skip_positions"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _reconstructor(dense_model("llama-gqa-tied"), **options)


def test_a_genome_of_another_model_is_refused() -> None:
    dense = dense_model("llama-gqa-tied")
    other = Genome.dense(dense_model("llama-mha-biases").architecture)
    with pytest.raises(ConfigError, match="does not fit"):
        _reconstructor(dense).reconstruct(other)


class _PeakMemory(TorchDispatchMode):
    """Adds up the storage of all tensors alive that were made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, torch.Tensor) and value.device.type != "meta":
                storage = value.untyped_storage()
                self._use(storage.data_ptr(), storage.nbytes(), 1)
                finalize(value, self._use, storage.data_ptr(), storage.nbytes(), -1)
        return result

    def _use(self, pointer: int, size: int, change: int) -> None:
        before = self._users[pointer]
        self._users[pointer] += change
        self._live += size * ((self._users[pointer] > 0) - (before > 0))
        self.peak = max(self.peak, self._live)

    def __enter__(self) -> Self:
        super().__enter__()
        return self


def test_only_hidden_states_grow_with_the_tokens() -> None:
    dense = dense_model("llama-gqa-tied")
    genome = random_genome(dense, 1)
    peaks = []
    counts = (32, 256)
    for count in counts:
        # No room beside them for the inputs of output projections.
        budget = 2 * count * 24 * dense.architecture.hidden_size * 4
        reconstructor = _reconstructor(dense, random_windows(count=count), batch_tokens=24 * 16, budget_bytes=budget)
        reconstructor.reconstruct(genome)
        with _PeakMemory() as memory:
            reconstructor.reconstruct(genome)
        peaks.append(memory.peak)
    hidden = 2 * (counts[1] - counts[0]) * 24 * dense.architecture.hidden_size * 4
    # The inner activations of the added tokens alone would be another 80 x tokens x 4 bytes.
    assert hidden * 0.95 < peaks[1] - peaks[0] < hidden * 1.1


def test_residuals_are_records_of_their_layer() -> None:
    dense = dense_model("opt")
    result = _reconstructor(dense).reconstruct(random_genome(dense, 1))
    assert all(isinstance(residual, SequentialResidual) for residual in result.residuals)
    assert [r.layer for r in result.residuals] == sorted(r.layer for r in result.residuals)
    assert all(residual.held_out is None and residual.damping == 1e-2 for residual in result.residuals)
