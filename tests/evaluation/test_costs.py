"""Speed and memory: what is exact is held exactly, what is timed only by its form."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from dense_models import LAYERS, dense_model, random_genome

from nas_llm.errors import ConfigError, ModelError
from nas_llm.evaluation import Times, Workload, alternating_times, process_memory, saved_memory, speed_score
from nas_llm.evaluation._generation import Generation
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet

LOAD = Workload(prompt_tokens=20, new_tokens=6, batch=2, rounds=2)


@pytest.mark.parametrize(("case", "seed"), [("llama-gqa-tied", 1), ("llama-gqa-untied", 3), ("opt", 2)])
def test_the_cache_holds_what_the_cost_model_says(case: str, seed: int) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, seed)
    run = Generation(build_subnet(dense, genome), LOAD)
    per_token = CostModel(dense.architecture, sequence_length=16, cache_bytes_per_value=4)(genome).kv_cache_bytes
    # A layer without attention holds a zero a token in keys and in values, for the sake of transformers.
    per_token += 2 * 4 * int((genome.kv_groups == 0).sum())
    run.first_token()
    assert run.cache_bytes() == 2 * 20 * per_token
    for _ in range(2):
        # Decoding again starts from the prompt again.
        run.decode()
        assert run.cache_bytes() == 2 * 26 * per_token


def test_decoding_writes_what_a_forward_of_everything_predicts() -> None:
    dense = dense_model("llama-gqa-tied")
    model = build_subnet(dense, random_genome(dense, 3))
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, args: seen.extend(args[0][0].tolist()))
    run = Generation(model, replace(LOAD, batch=1))
    run.first_token()
    run.decode()
    logits = model(torch.tensor([seen])).logits[0]
    assert seen[20:26] == logits[19:25].argmax(-1).tolist()


def test_models_are_timed_in_turns() -> None:
    dense = dense_model("llama-gqa-tied")
    small = build_subnet(dense, random_genome(dense, 1))
    order: list[str] = []
    for name, model in (("dense", dense.model), ("small", small)):
        model.register_forward_pre_hook(lambda *_, name=name: order.append(name))
    rounds: list[int] = []
    found = alternating_times([dense.model, small], LOAD, on_round=rounds.append)
    assert rounds == [1, 2]
    assert sum(one != other for one, other in pairwise(order)) == 5
    for times in found:
        assert times.first_token.shape == times.decode.shape == (2,)
        assert (times.first_token > 0).all()


def test_a_score_is_made_of_medians_and_of_ratios_round_by_round() -> None:
    model = dense_model("llama-gqa-tied").model
    times = Times(first_token=np.array([1.0, 2.0, 3.0]), decode=np.array([2.0, 2.0, 8.0]))
    dense = Times(first_token=np.array([3.0, 2.0, 6.0]), decode=np.array([4.0, 6.0, 8.0]))
    score = speed_score(model, times, dense, workload=replace(LOAD, rounds=3), against="dense")
    assert score.first_token_seconds == 2.0
    assert score.first_token_spread == 0.5
    assert score.prefill_tokens_per_second == 2 * 20 / 2.0
    assert score.decode_tokens_per_second == 2 * 6 / 2.0
    assert (score.prefill_speedup, score.decode_speedup) == (2.0, 2.0)
    assert (score.device, score.dtype, score.against) == ("cpu", "float32", "dense")


def test_memory_of_a_process_covers_the_weights() -> None:
    dense = dense_model("llama-gqa-tied")
    shape = dense.architecture
    half = np.zeros((LAYERS, shape.intermediate_size), dtype=bool)
    half[:, ::2] = True
    subnet = build_subnet(dense, Genome(np.ones((LAYERS, shape.num_kv_heads), dtype=bool), half))
    peak, cache = saved_memory(subnet, LOAD)
    assert peak > sum(parameter.nbytes for parameter in subnet.parameters())
    assert cache == 2 * 26 * LAYERS * 2 * shape.num_kv_heads * shape.head_dim * 4


def test_memory_of_a_process_is_not_that_of_its_parent() -> None:
    mine = np.ones(50_000_000)
    peak, _ = saved_memory(dense_model("llama-gqa-tied").model, LOAD)
    assert peak < mine.nbytes


def test_a_process_that_fails_is_an_error_of_one_line() -> None:
    with pytest.raises(ModelError, match="memory of /no/such cannot be measured: exit code 1") as caught:
        process_memory("/no/such", LOAD, dtype=torch.float32)
    assert "\n" not in str(caught.value)


def test_a_load_beyond_the_positions_is_refused() -> None:
    with pytest.raises(ConfigError, match="120 prompt and 30 new tokens.*128 positions.*--prompt-tokens"):
        Generation(dense_model("opt").model, Workload(prompt_tokens=120, new_tokens=30))
