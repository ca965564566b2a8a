"""A beaten candidate is given up, on an estimate that is honest; others are scored as if there were no race."""

from __future__ import annotations

import math

import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel
from nas_llm.space import Genome
from nas_llm.subnet import PopulationEvaluator, Racing

WINDOWS = random_windows(count=8, length=32)


def _evaluator(dense: DenseModel, racing: Racing | None = None, metric: str = "perplexity") -> PopulationEvaluator:
    device = torch.device("cpu")
    return PopulationEvaluator(dense, WINDOWS, metric=metric, device=device, dtype=torch.float32, racing=racing)


@pytest.mark.parametrize("metric", ["perplexity", "kl"])
def test_only_candidates_that_are_clearly_beaten_are_given_up(metric: str) -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = [random_genome(dense, seed) for seed in range(3)]
    full = _evaluator(dense, metric=metric).evaluate(genomes)
    told: dict[int, float] = {}

    def listen(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        told[index] = fidelity

    bars = [full[0] * 1.001, full[1] / 50, math.inf]
    raced = _evaluator(dense, Racing(), metric).evaluate(genomes, on_result=listen, bars=bars)
    assert raced[0] == full[0]
    assert raced[2] == full[2]
    assert told == {0: 1.0, 1: 0.25, 2: 1.0}
    assert raced[1] == pytest.approx(full[1], rel=0.5)
    assert raced[1] > bars[1]


def test_without_bars_nobody_is_given_up() -> None:
    dense = dense_model("opt")
    genomes = [random_genome(dense, seed) for seed in range(3)]
    assert _evaluator(dense, Racing(confidence=0.0)).evaluate(genomes) == _evaluator(dense).evaluate(genomes)


def test_the_estimate_is_exact_for_the_dense_model_and_certain_at_the_end() -> None:
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(100, generator=generator, dtype=torch.float64)
    mean, error = Racing().estimate(dense[:30], dense)
    assert mean == pytest.approx(float(dense.mean()))
    assert error == pytest.approx(0.0, abs=1e-12)
    other = dense + torch.rand(100, generator=generator, dtype=torch.float64)
    assert Racing().estimate(other, dense) == (pytest.approx(float(other.mean())), 0.0)


def test_the_standard_error_covers_the_truth() -> None:
    generator = torch.Generator().manual_seed(1)
    inside = 0
    for _ in range(200):
        dense, difference = torch.rand(2, 400, generator=generator, dtype=torch.float64)
        truth = float((dense + difference).mean())
        mean, error = Racing().estimate((dense + difference)[:100], dense)
        inside += abs(mean - truth) <= 2 * error
    assert 180 <= inside <= 200


def test_a_broken_candidate_is_beaten_by_anything() -> None:
    seen = torch.full((10,), math.inf, dtype=torch.float64)
    assert Racing().beaten(seen, torch.ones(40, dtype=torch.float64), 5.0)
    assert not Racing().beaten(seen, torch.ones(40, dtype=torch.float64), math.inf)


@pytest.mark.parametrize("wrong", [{"parts": 1}, {"confidence": -1.0}])
def test_refuses_what_cannot_race(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="racing needs"):
        Racing(**wrong)  # type: ignore[arg-type]


def test_the_dense_genome_is_no_special_case() -> None:
    dense = dense_model("opt")
    genome = Genome.dense(dense.architecture)
    assert _evaluator(dense, Racing()).evaluate([genome], bars=[1e9]) == _evaluator(dense).evaluate([genome])
