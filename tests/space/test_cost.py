from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.errors import SpaceError
from nas_llm.space import COST_NAMES, Architecture, Cost, CostModel, Genome

FLAGS = ("gated_mlp", "qkv_bias", "o_bias", "mlp_bias", "norm_outside", "final_norm", "tied_embeddings")


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    heads = draw(st.sampled_from([(2, 1), (4, 2), (3, 3)]))
    return Architecture(
        family="any",
        num_layers=draw(st.integers(1, 4)),
        hidden_size=8,
        num_heads=heads[0],
        num_kv_heads=heads[1],
        head_dim=draw(st.sampled_from([2, 4])),
        intermediate_size=12,
        vocab_size=20,
        norm_parameters=draw(st.sampled_from([0, 8, 16])),
        embedding_size=draw(st.sampled_from([8, 6])),
        position_parameters=draw(st.sampled_from([0, 40])),
        max_positions=32,
        **{flag: draw(st.booleans()) for flag in FLAGS},
    )


def random_genome(a: Architecture, seed: int) -> Genome:
    rng = np.random.default_rng(seed)
    attn = rng.random((a.num_layers, a.num_kv_heads)) < 0.6
    return Genome(attn, rng.random((a.num_layers, a.intermediate_size)) < 0.6)


def numbers(cost: Cost) -> np.ndarray:
    exact = [name for name in COST_NAMES if name != "latency"]
    return np.array([getattr(cost, name) for name in exact], dtype=np.float64)


@settings(max_examples=60, deadline=None)
@given(architectures(), st.integers(0, 1000))
def test_params_equal_a_count_of_tensor_sizes(a: Architecture, seed: int) -> None:
    genome = random_genome(a, seed)
    d, block, norms = a.hidden_size, 0, 0
    for groups, channels in zip(genome.kv_groups.tolist(), genome.ffn_channels.tolist(), strict=True):
        q, kv = groups * a.heads_per_group * a.head_dim, groups * a.head_dim
        if groups:
            block += q * d + 2 * kv * d + d * q
            block += (q + 2 * kv) * a.qkv_bias + d * a.o_bias
        if channels:
            block += (3 if a.gated_mlp else 2) * channels * d
            block += ((2 if a.gated_mlp else 1) * channels + d) * a.mlp_bias
        norms += 2 if a.norm_outside else bool(groups) + bool(channels)
    outside = a.vocab_size * a.embedding_size * (1 if a.tied_embeddings else 2) + a.position_parameters
    outside += a.norm_parameters * (norms + a.final_norm)
    outside += 0 if a.embedding_size == d else 2 * a.embedding_size * d
    cost = CostModel(a, sequence_length=16)(genome)
    assert cost.block_params == block
    assert cost.params == block + outside
    assert cost.kv_cache_bytes == genome.kv_groups.sum() * 2 * a.head_dim * 2


@settings(max_examples=60, deadline=None)
@given(architectures(), st.integers(0, 1000))
def test_every_cost_grows_with_every_unit(a: Architecture, seed: int) -> None:
    model, genome = CostModel(a, sequence_length=16), random_genome(a, seed)
    before = numbers(model(genome))
    for name in ("attn_mask", "mlp_mask"):
        for layer, unit in np.argwhere(~getattr(genome, name)):
            masks = {"attn_mask": genome.attn_mask.copy(), "mlp_mask": genome.mlp_mask.copy()}
            masks[name][layer, unit] = True
            after = numbers(model(Genome(**masks)))
            assert (after >= before).all()
            assert after[0] > before[0]


@settings(max_examples=40, deadline=None)
@given(architectures())
def test_costs_are_linear_in_the_counts(a: Architecture) -> None:
    model = CostModel(a, sequence_length=16)
    counts = {"groups": 2, "channels": 3, "attention_layers": 1, "ffn_layers": 1}
    base = numbers(model.from_counts(**counts))
    for name in counts:
        once = numbers(model.from_counts(**{**counts, name: counts[name] + 1})) - base
        thrice = numbers(model.from_counts(**{**counts, name: counts[name] + 3})) - base
        assert np.allclose(thrice, 3 * once, rtol=1e-12)


def test_dense_ratio_is_one_and_masks_only_count(architecture: Architecture) -> None:
    model = CostModel(architecture, sequence_length=16)
    assert model.dense.inheriting_ratio == 1.0
    left = Genome.dense(architecture).with_rows(mlp=[(0, np.arange(16) < 5)])
    right = Genome.dense(architecture).with_rows(mlp=[(2, np.arange(16) >= 11)])
    assert model(left) == model(right)
    assert model(left).inheriting_ratio < 1.0


def test_longer_sequences_cost_more_per_token(architecture: Architecture) -> None:
    short, long = (CostModel(architecture, sequence_length=n).dense for n in (16, 32))
    heads = architecture.num_layers * architecture.num_heads * architecture.head_dim
    assert long.macs_per_token - short.macs_per_token == 2 * 16 * heads
    assert long.params == short.params


def test_wrong_shapes_and_lengths_are_refused(make_architecture: Any) -> None:
    model = CostModel(make_architecture(), sequence_length=16)
    with pytest.raises(SpaceError, match="the model needs"):
        model(Genome.dense(make_architecture(num_layers=4)))
    with pytest.raises(SpaceError, match="sequence_length"):
        CostModel(make_architecture(), sequence_length=0)


@pytest.mark.parametrize(("sizes", "said"), [({"num_heads": 3}, "multiple"), ({"num_layers": 0}, "num_layers")])
def test_contradicting_sizes_are_refused(make_architecture: Any, sizes: dict[str, int], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        make_architecture(**sizes)
