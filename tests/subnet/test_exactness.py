"""A sliced subnet is the dense model with the omitted units zeroed, counted and computed."""

from __future__ import annotations

import copy

import pytest
import torch
from dense_models import CASE_MODES, DENSE_CASES, MODES, dense_model, random_genome, random_windows
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nas_llm.evaluation import count_block_params, count_macs_per_token
from nas_llm.models import causal_attention, on_device
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet, masked_copy

CPU = torch.device("cpu")
SEEDS = range(4)


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_sliced_logits_equal_masked_logits(case: str, seed: int, mode: str) -> None:
    dense, ids = dense_model(case), torch.from_numpy(random_windows().tokens.copy())
    genome = random_genome(dense, seed, mode)
    masked, sliced = masked_copy(dense, genome)(ids).logits, build_subnet(dense, genome)(ids).logits
    assert (masked - sliced).abs().max() <= 1e-4
    # The oracle is no constant: masking does change the model.
    assert (masked - dense.model(ids).logits).abs().max() > 1e-2


@pytest.mark.parametrize("case", DENSE_CASES)
def test_dense_genome_changes_nothing(case: str) -> None:
    dense, ids = dense_model(case), torch.from_numpy(random_windows().tokens.copy())
    subnet = build_subnet(dense, Genome.dense(dense.architecture))
    assert torch.equal(subnet(ids).logits, dense.model(ids).logits)


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
@pytest.mark.parametrize("seed", SEEDS)
def test_costs_equal_what_is_counted(case: str, seed: int, mode: str) -> None:
    dense, length = dense_model(case), 24
    genome = random_genome(dense, seed, mode)
    subnet, cost = build_subnet(dense, genome), CostModel(dense.architecture, sequence_length=length)(genome)
    assert cost.params == sum(parameter.numel() for parameter in subnet.parameters())
    assert cost.block_params == count_block_params(subnet)
    subnet.set_attn_implementation("eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        subnet(torch.zeros((1, length), dtype=torch.long), use_cache=False)
    assert cost.macs_per_token * length * 2 == counter.get_total_flops()
    subnet.set_attn_implementation("sdpa")
    assert cost.macs_per_token == count_macs_per_token(subnet, length)


@pytest.mark.parametrize("case", DENSE_CASES)
def test_dense_costs_equal_the_dense_model(case: str) -> None:
    dense = dense_model(case)
    cost = CostModel(dense.architecture, sequence_length=24).dense
    assert cost.params == sum(parameter.numel() for parameter in dense.model.parameters())
    assert cost.block_params == count_block_params(dense.model)
    assert cost.macs_per_token == count_macs_per_token(dense.model, 24)
    assert cost.inheriting_ratio == 1.0


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt", "mistral"])
@pytest.mark.parametrize("mode", MODES)
def test_kv_cache_bytes_equal_the_cache(case: str, mode: str) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, 3, mode)
    subnet = build_subnet(dense, genome)
    cache = subnet(torch.full((1, 10), 5), use_cache=True).past_key_values
    # A layer without attention holds one zero a token, by which caches tell how far the text has come.
    slots = [
        (layer.keys.numel() + layer.values.numel(), groups)
        for layer, groups in zip(cache.layers, genome.kv_groups, strict=True)
    ]
    assert {held for held, groups in slots if not groups} == {2 * 10}
    held = sum(held for held, groups in slots if groups)
    assert CostModel(dense.architecture, sequence_length=8)(genome).kv_cache_bytes * 10 == held * 2


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
def test_generates_the_same_with_and_without_cache(case: str, mode: str) -> None:
    dense = dense_model(case)
    subnet = build_subnet(dense, random_genome(dense, 0, mode))
    prompt = torch.from_numpy(random_windows(count=1, length=8).tokens.copy())
    kwargs = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(prompt)}
    cached, plain = (subnet.generate(prompt, use_cache=use, **kwargs) for use in (True, False))
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("widths", [(8, 4), (4, 8), (8, 8)])
def test_values_of_another_width_take_the_fast_kernel_of_the_cpu(widths: tuple[int, int]) -> None:
    """The other one holds all scores: its peak and its time grow with the square of the text."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(2, heads, 40, width, generator=generator)
        for heads, width in ((6, widths[0]), (2, widths[0]), (2, widths[1]))
    )
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = causal_attention(query, key, value, scaling=0.3)
    kernels = {event.key for event in profile.key_averages()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in kernels
    assert "aten::_scaled_dot_product_attention_math" not in kernels
    expected = functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    assert found.shape == (2, 40, 6, widths[1])
    torch.testing.assert_close(found, expected.transpose(1, 2))


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_exported_attention_takes_the_fast_kernel_too(case: str) -> None:
    dense = dense_model(case)
    subnet = build_subnet(dense, random_genome(dense, 2, "head_dim_split"))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.inference_mode():
        subnet(torch.from_numpy(random_windows().tokens.copy()), use_cache=False)
    assert "aten::_scaled_dot_product_attention_math" not in {event.key for event in profile.key_averages()}


def test_slicing_leaves_the_dense_model_untouched() -> None:
    dense = dense_model("llama-mha-biases")
    before = {name: value.clone() for name, value in dense.model.state_dict().items()}
    subnet = build_subnet(dense, random_genome(dense, 1))
    for parameter in subnet.parameters():
        parameter.data.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in dense.model.state_dict().items())


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_a_subnet_may_share_what_is_outside_its_blocks_and_has_the_type_asked_for(case: str) -> None:
    dense = dense_model(case)
    genome, before = random_genome(dense, 1), copy.deepcopy(dense.model.state_dict())
    whole, shared = build_subnet(dense, genome), build_subnet(dense, genome, share_outside=True)
    assert shared.lm_head.weight.data_ptr() == dense.model.lm_head.weight.data_ptr()
    assert whole.lm_head.weight.data_ptr() != dense.model.lm_head.weight.data_ptr()
    ids = torch.from_numpy(random_windows(count=1).tokens.copy())
    assert torch.equal(shared(ids).logits, whole(ids).logits)
    small = build_subnet(dense, genome, dtype=torch.bfloat16, share_outside=True)
    on_device(shared, CPU, torch.bfloat16)
    assert {weight.dtype for weight in small.parameters()} == {torch.bfloat16}
    assert torch.equal(small(ids).logits, shared(ids).logits)
    assert all(torch.equal(value, before[name]) for name, value in dense.model.state_dict().items())
