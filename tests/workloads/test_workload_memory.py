from __future__ import annotations

import pytest
import torch
from dense_models import CASE_MODES, VOCABULARY, dense_model, random_genome

from nas_llm.errors import ConfigError
from nas_llm.space import CostModel, Genome
from nas_llm.subnet import build_subnet
from nas_llm.workloads import MemoryParts, Workload, WorkloadMemory, memory_parts

CHAT = Workload(name="chat", prompt=7, new_tokens=5, batch=2, dtype="float32")


def parts(workload: Workload, genome: Genome, model: CostModel) -> MemoryParts:
    cost = model(genome)
    return memory_parts(
        workload,
        params=cost.params,
        kv_cache_bytes=cost.kv_cache_bytes,
        intermediate_size=model.architecture.intermediate_size,
    )


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
def test_weights_and_cache_are_what_generate_takes(case: str, mode: str) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, 5, mode)
    model = build_subnet(dense, genome)
    found = parts(CHAT, genome, CostModel(dense.architecture))
    assert found.weights == sum(parameter.nbytes for parameter in model.parameters())
    prompt = torch.randint(VOCABULARY, (CHAT.batch, CHAT.prompt), generator=torch.Generator().manual_seed(0))
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        # The first of them comes out of the prompt; the last one is never read.
        max_new_tokens=CHAT.new_tokens + 1,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        return_dict_in_generate=True,
    )
    # Layers without attention hold a zero a token, for the sake of transformers alone.
    held = [
        layer.keys.nbytes + layer.values.nbytes
        for layer, groups in zip(out.past_key_values.layers, genome.kv_groups, strict=True)
        if groups
    ]
    assert found.kv_cache == sum(held)
    assert found.total == found.weights + found.kv_cache + found.activations


def test_memory_is_a_sum_over_units() -> None:
    dense = dense_model("llama-gqa-tied")
    memory = WorkloadMemory(CHAT, dense.architecture)
    model = CostModel(dense.architecture, sized=[memory])
    attn, mlp = (mask.copy() for mask in (Genome.dense(dense.architecture).attn_mask, random_genome(dense, 1).mlp_mask))
    mlp[:, :3] = True
    before = model(Genome(attn, mlp)).value("chat.memory")
    group, channel = model.unit_costs("chat.memory")
    attn[1, 0], mlp[2, :2] = False, False
    assert model(Genome(attn, mlp)).value("chat.memory") == before - group - 2 * channel


def test_half_the_type_is_half_of_weights_and_cache() -> None:
    dense = dense_model("opt")
    genome, model = random_genome(dense, 2), CostModel(dense.architecture)
    half = Workload(name="chat", prompt=7, new_tokens=5, batch=2, dtype="bfloat16")
    small, large = parts(half, genome, model), parts(CHAT, genome, model)
    assert (2 * small.weights, 2 * small.kv_cache) == (large.weights, large.kv_cache)
    assert small.activations < large.activations


def test_numbers_below_one_and_strange_types_are_refused() -> None:
    with pytest.raises(ConfigError, match="new_tokens of workload chat must be at least 1, got 0"):
        Workload(name="chat", prompt=7, new_tokens=0, dtype="float32")
    with pytest.raises(
        ConfigError, match="dtype of workload chat must be one of float32, bfloat16, float16, got 'int8'"
    ):
        Workload(name="chat", prompt=7, new_tokens=1, dtype="int8")
    with pytest.raises(ConfigError, match="takes 7 prompt and 5 new tokens, the model has 11 positions; lower one"):
        CHAT.check_positions(11)
    CHAT.check_positions(12)
