"""What a CUDA GPU computes, against the CPU: ``make test-cuda``."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_models import DENSE_CASES, dense_model, random_genome, random_windows
from questions import random_questions
from whole_fronts import SETTINGS

from nas_llm.calibration import calibrate, keep_grams
from nas_llm.config import LatencySection, load_problem
from nas_llm.evaluation import Workload, alternating_times, cuda_memory, measure_latency_table, model_perplexity
from nas_llm.models import fast_float32, on_device
from nas_llm.reconstruction import BlockReconstructor, SequentialReconstructor, TokenWeights, admm, closed_form
from nas_llm.space import UnitScores
from nas_llm.subnet import PopulationEvaluator, TaylorMarginals, build_subnet
from nas_llm.workflow import evaluate_models, export_points, run_search

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device, or hidden from the tests; make test-cuda shows it"
)

QUESTIONS = random_questions()
TERMS = {"kl": 1.0, "margin": 0.5}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CASES = ("llama-gqa-tied", "llama-mha-biases", "opt", "opt-post-norm")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("metric", ["perplexity", "kl", "margin", "fitness"])
@pytest.mark.parametrize("case", DENSE_CASES)
def test_values_are_those_of_the_cpu(case: str, metric: str, stream: bool) -> None:
    dense, windows = dense_model(case), random_windows(count=12)
    genomes = [random_genome(dense, seed) for seed in range(4)]
    cpu, cuda = (
        PopulationEvaluator(
            dense,
            windows,
            metric=metric,
            device=device,
            dtype=torch.float32,
            stream=stream and device is CUDA,
            questions=QUESTIONS,
            terms=TERMS,
        ).evaluate(genomes)
        for device in (CPU, CUDA)
    )
    assert cuda == pytest.approx(cpu, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_perplexity_is_that_of_the_built_subnet(case: str) -> None:
    dense, windows, genome = dense_model(case), random_windows(count=12), random_genome(dense_model(case), 1)
    evaluator = PopulationEvaluator(dense, windows, metric="perplexity", device=CUDA, dtype=torch.bfloat16)
    subnet = on_device(build_subnet(dense, genome), CUDA, torch.bfloat16)
    assert evaluator.evaluate([genome])[0] == pytest.approx(model_perplexity(subnet, windows), rel=2e-2)


@pytest.mark.parametrize("scorer", ["obs", "importance"])
@pytest.mark.parametrize("case", CASES)
def test_grams_and_scores_are_those_of_the_cpu(case: str, scorer: str) -> None:
    dense, windows = dense_model(case), random_windows(count=40)
    cpu, cuda = (calibrate(dense, windows, scorer=scorer, damping=1e-2, device=device) for device in (CPU, CUDA))
    for layer in range(dense.architecture.num_layers):
        for one, other in zip(cpu.grams(layer), cuda.grams(layer), strict=True):
            assert float((one.matrix - other.matrix.cpu()).norm() / one.matrix.norm()) < 1e-4
    for one, other in ((cpu.scores.attn, cuda.scores.attn), (cpu.scores.mlp, cuda.scores.mlp)):
        for here, there in zip(one, other, strict=True):
            assert np.corrcoef(here, there)[0, 1] > 0.999


@pytest.mark.parametrize("solve", [closed_form, admm])
@pytest.mark.parametrize("case", CASES)
def test_refitted_blocks_are_those_of_the_cpu(case: str, solve: object) -> None:
    dense, windows, genome = dense_model(case), random_windows(count=40), random_genome(dense_model(case), 1)
    grams = keep_grams(dense, windows, device=CPU)
    for layer in range(dense.architecture.num_layers):
        masks = genome.attn_mask[layer], genome.mlp_mask[layer]
        sliced = dense.adapter.slice_block(dense.architecture, dense.block_state(layer), *masks)
        cpu, cuda = (
            BlockReconstructor(dense, grams, damping=1e-2, solve=solve, device=device).refit(layer, sliced, *masks)  # type: ignore[arg-type]
            for device in (CPU, CUDA)
        )
        for name, value in cpu.items():
            torch.testing.assert_close(cuda[name].cpu(), value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("refit_inputs", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_sequential_refits_are_those_of_the_cpu(case: str, refit_inputs: bool) -> None:
    dense, windows, genome = dense_model(case), random_windows(count=40), random_genome(dense_model(case), 1)
    cpu, cuda = (
        SequentialReconstructor(
            dense,
            windows,
            damping=(1e-2, 1e-1),
            refit_inputs=refit_inputs,
            step=0.5,
            blend=1.0,
            start="inherited",
            tokens=TokenWeights(relative=False),
            batch_tokens=4096,
            device=device,
            budget_bytes=1 << 30 if device is CPU else 0,
            device_budget_bytes=0 if device is CPU else 1 << 30,
            # No folder: hidden states have no place but the one that the budgets name.
            offload_dir=Path(__file__),
        ).reconstruct(genome)
        for device in (CPU, CUDA)
    )
    for one, other in zip(cpu.layers, cuda.layers, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name].device.type == "cpu"
            assert float((other[name] - value).norm() / value.norm()) < 1e-3, name


@pytest.mark.parametrize("metric", ["perplexity", "kl", "margin", "fitness"])
@pytest.mark.parametrize("case", CASES)
def test_marginals_are_those_of_the_cpu(case: str, metric: str) -> None:
    dense, windows, rng = dense_model(case), random_windows(count=4), np.random.default_rng(3)
    shape = dense.architecture
    scores = UnitScores(
        rng.random((shape.num_layers, shape.num_kv_heads)), rng.random((shape.num_layers, shape.intermediate_size))
    )
    grams = keep_grams(dense, windows, device=CPU)
    cpu, cuda = (
        TaylorMarginals(
            dense,
            windows,
            metric=metric,
            scores=scores,
            step=9,
            tokens=96,
            device=device,
            dtype=torch.float32,
            # The same Grams: they are of few tokens, so their inverse makes much of their last digits.
            reconstructor=BlockReconstructor(dense, grams, damping=1e-2, device=device),
            questions=QUESTIONS,
            terms=TERMS,
        )(random_genome(dense, 1), 0)
        for device in (CPU, CUDA)
    )
    for one, other in ((cpu.mlp_less, cuda.mlp_less), (cpu.mlp_more, cuda.mlp_more)):
        np.testing.assert_allclose(other, one, rtol=1e-2, atol=1e-3 * float(np.nanmax(np.abs(one))))


def test_speed_memory_and_latency_are_measured() -> None:
    dense = dense_model("llama-gqa-tied")
    model = on_device(copy.deepcopy(dense.model), CUDA, torch.bfloat16)
    workload = Workload(prompt_tokens=32, new_tokens=8, batch=2, rounds=3)
    (times,) = alternating_times([model], workload)
    assert np.all(times.first_token > 0)
    assert np.all(times.decode > 0)
    peak, cache = cuda_memory(model, workload)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    shape = dense.architecture
    # Keys and values of two sequences of 40 tokens, give or take the last one, in two bytes each.
    expected = 2 * 2 * 40 * shape.num_layers * shape.num_kv_heads * shape.head_dim * 2
    assert peak > weights + cache
    assert cache == pytest.approx(expected, rel=0.05)
    settings = LatencySection(phase="decode", context=64, repeats=5)
    table = measure_latency_table(dense, settings, ffn_multiple=16, device=CUDA, dtype=torch.bfloat16)
    predicted = [table(random_genome(dense, seed)) for seed in range(3)]
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in predicted)


def test_float32_products_keep_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 512, 512, generator=generator)
    with fast_float32(CUDA):
        product = (a.to(CUDA) @ b.to(CUDA)).cpu()
    exact = a.double() @ b.double()
    assert float((product - exact).norm() / exact.norm()) < 1e-6


def test_a_search_its_exports_and_their_evaluation_work_to_the_end(tmp_path: Path) -> None:
    loaded = load_problem("tiny-llama", overrides=[*SETTINGS, f"model.device={CUDA.type}", "search.evaluations=32"])
    run = run_search(loaded, run_dir=tmp_path / "run")
    for method in ("closed_form", "sequential"):
        (export,) = export_points(run, [run.front.points[-1]], method=method, out=tmp_path / method)
        workload = Workload(prompt_tokens=32, new_tokens=4, rounds=2)
        *_, measured = evaluate_models(
            [str(export.path)], latency=True, memory=True, workload=workload, device=CUDA.type
        )
        assert measured.speed is not None
        assert measured.speed.device == CUDA.type
        assert measured.memory is not None
        assert measured.memory.peak_bytes > 0
