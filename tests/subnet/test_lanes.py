"""Candidates side by side: the same values, and nobody keeps running when somebody stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from dense_models import dense_model, random_genome, random_windows

from nas_llm.calibration import calibrate
from nas_llm.models import DenseModel
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.subnet import PopulationEvaluator, Racing
from nas_llm.subnet._lanes import in_lanes, lanes_for

CPU = torch.device("cpu")
WINDOWS = random_windows(count=12)


@pytest.fixture
def three_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def _evaluator(dense: DenseModel, *, refit: bool = False, racing: Racing | None = None) -> PopulationEvaluator:
    reconstructor = None
    if refit:
        calibration = calibrate(
            dense, random_windows(count=20, name="calibration"), scorer="importance", damping=0.01, device=CPU
        )
        reconstructor = BlockReconstructor(dense, calibration, damping=0.01, device=CPU, dtype=torch.float32)
    return PopulationEvaluator(
        dense,
        WINDOWS,
        metric="perplexity",
        device=CPU,
        dtype=torch.float32,
        reconstructor=reconstructor,
        racing=racing,
    )


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt-post-norm"])
@pytest.mark.parametrize("refit", [False, True])
def test_values_are_those_of_one_thread(three_cores: None, case: str, refit: bool) -> None:
    dense = dense_model(case)
    genomes = [random_genome(dense, seed) for seed in range(14)]
    side_by_side = _evaluator(dense, refit=refit)
    together = side_by_side.evaluate(genomes)
    assert side_by_side.statistics.candidates == 14
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert together == _evaluator(dense, refit=refit).evaluate(genomes)


def test_racing_gives_up_the_same_candidates(three_cores: None) -> None:
    dense = dense_model("llama-gqa-tied")
    genomes = [random_genome(dense, seed) for seed in range(9)]
    full = _evaluator(dense).evaluate(genomes)
    bars = [value / 50 if index % 2 else float("inf") for index, value in enumerate(full)]
    together = _evaluator(dense, racing=Racing()).evaluate(genomes, bars=bars)
    torch.set_num_threads(1)
    assert together == _evaluator(dense, racing=Racing()).evaluate(genomes, bars=bars)
    assert [a == b for a, b in zip(together, full, strict=True)] == [index % 2 == 0 for index in range(9)]


def test_a_stop_of_the_listener_ends_all_threads(three_cores: None) -> None:
    dense = dense_model("opt")

    def stop(index: int, value: float, seconds: float, fidelity: float = 1.0) -> None:
        raise KeyboardInterrupt

    evaluator = _evaluator(dense)
    with pytest.raises(KeyboardInterrupt):
        evaluator.evaluate([random_genome(dense, seed) for seed in range(30)], on_result=stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane-")]
    assert evaluator.statistics.candidates < 30
    assert torch.get_num_threads() == 3


def test_an_error_in_a_lane_is_the_error_of_the_caller(three_cores: None) -> None:
    def work(chunk: int) -> Iterator[int]:
        if chunk == 3:
            raise ValueError("broken")
        yield chunk

    with pytest.raises(ValueError, match="broken"):
        list(in_lanes(range(8), work, lanes=3))
    assert sorted(in_lanes(range(3), work, lanes=3)) == [0, 1, 2]


def test_a_gpu_has_one_lane_and_a_tight_budget_fewer(three_cores: None) -> None:
    assert lanes_for(torch.device("cuda")) == 1
    assert lanes_for(CPU) == 3
    dense = dense_model("opt")
    assert _evaluator(dense).plan.lanes == 3
    tight = PopulationEvaluator(
        dense, WINDOWS, metric="perplexity", device=CPU, dtype=torch.float32, memory_bytes=300_000
    )
    assert tight.plan.lanes < 3
    genomes = [random_genome(dense, seed) for seed in range(4)]
    # Windows run in smaller batches then, and some CPUs' products round by the number of rows.
    assert tight.evaluate(genomes) == pytest.approx(_evaluator(dense).evaluate(genomes), rel=1e-7)
