"""Attention of the modelling files against attention over whole heads, written out, in which channels are zero."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import cut_heads, dense_model, random_genome
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from nas_llm.models.families._base import kept_units, layer_sizes
from nas_llm.space import Architecture, BoolArray, Genome
from nas_llm.subnet import build_subnet

GROUPS, QUERIES, WIDTH, HIDDEN, LENGTH, CHANNELS = 2, 3, 16, 24, 11, 80


def _architecture(rotary_dim: int) -> Architecture:
    return Architecture(
        family="llama",
        num_layers=5,
        hidden_size=HIDDEN,
        num_heads=GROUPS * QUERIES,
        num_kv_heads=GROUPS,
        head_dim=WIDTH,
        intermediate_size=CHANNELS,
        vocab_size=96,
        gated_mlp=True,
        qkv_bias=False,
        o_bias=False,
        mlp_bias=False,
        norm_parameters=HIDDEN,
        norm_outside=False,
        final_norm=True,
        tied_embeddings=True,
        embedding_size=HIDDEN,
        position_parameters=0,
        max_positions=64,
        rotary_dim=rotary_dim,
    )


def _tables(rotary_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, ``1 x T x r``; both halves are equal."""
    frequencies = 100.0 ** (-torch.arange(0, rotary_dim, 2) / rotary_dim)
    angles = torch.arange(LENGTH)[:, None] * torch.cat([frequencies, frequencies])
    return angles.cos()[None], angles.sin()[None]


def _turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first channels of ``heads x T x d`` turned, ``i`` together with ``i + r/2``."""
    count = cos.shape[-1]
    first, rest = heads[..., :count], heads[..., count:]
    swapped = torch.cat([-first[..., count // 2 :], first[..., : count // 2]], dim=-1)
    return torch.cat([first * cos + swapped * sin, rest], dim=-1)


def _oracle(
    weights: dict[str, Tensor], hidden: Tensor, tables: tuple[Tensor, Tensor], masks: tuple[BoolArray, ...]
) -> Tensor:
    """Causal attention of the dense model, ``T x D``, with zeros where a channel is not kept."""
    qk, vo = (torch.from_numpy(mask).float() for mask in masks)
    q, k, v = (
        (hidden @ weights[name].T).unflatten(-1, (-1, WIDTH)).transpose(0, 1) * kept[:, None]
        for name, kept in (("q", qk.repeat_interleave(QUERIES, 0)), ("k", qk), ("v", vo))
    )
    q, k = _turned(q, *tables), _turned(k, *tables).repeat_interleave(QUERIES, 0)
    scores = q @ k.transpose(1, 2) / WIDTH**0.5
    scores = scores.masked_fill(torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), -torch.inf)
    mixed = scores.softmax(-1) @ v.repeat_interleave(QUERIES, 0)
    return mixed.transpose(0, 1).flatten(1) @ weights["o"].T


def _cut_attention(architecture: Architecture, weights: dict[str, Tensor], row: BoolArray) -> nn.Module:
    """The attention of a subnet's layer."""
    dense = dense_model("llama-gqa-tied")
    config = copy.copy(dense.model.config)
    groups, _, heads = layer_sizes(architecture, row, np.ones(CHANNELS, dtype=bool))
    sizes = {
        "hidden_size": HIDDEN,
        "head_dim": WIDTH,
        "num_key_value_heads": groups,
        "num_attention_heads": groups * QUERIES,
        **dense.adapter.head_sizes(heads),
    }
    for key, value in sizes.items():
        setattr(config, key, value)
    attention = dense.adapter.modeling("llama").NasLlamaAttention(config, 0)
    qk, vo = architecture.head_channels(row)
    rows = {
        "q": qk.repeat(QUERIES, axis=0),
        "k": qk,
        "v": vo,
        "o": vo.repeat(QUERIES, axis=0),
    }
    state = {
        f"{name}_proj.weight": weights[name][:, kept.reshape(-1)] if name == "o" else weights[name][kept.reshape(-1)]
        for name, kept in rows.items()
    }
    attention.load_state_dict({**state, "kept_units": torch.from_numpy(kept_units(architecture, qk))})
    return attention.eval()


@pytest.mark.parametrize("rotary_dim", [16, 12, 8, 4, 2])
@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
def test_tables_may_be_narrower_than_a_head(rotary_dim: int, mode: str) -> None:
    architecture = _architecture(rotary_dim)
    generator = torch.Generator().manual_seed(rotary_dim)
    outer, inner = GROUPS * QUERIES * WIDTH, GROUPS * WIDTH
    shapes = {"q": (outer, HIDDEN), "k": (inner, HIDDEN), "v": (inner, HIDDEN), "o": (HIDDEN, outer)}
    weights = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    hidden, tables = torch.randn(LENGTH, HIDDEN, generator=generator), _tables(rotary_dim)
    attn = np.array([[True, True], [True, True], [True, False], [False, True], [True, True]])
    genome = cut_heads(architecture, Genome(attn, np.ones((5, CHANNELS), dtype=bool)), mode, seed=rotary_dim)
    seen = 0
    for layer in genome.cut_layers:
        row = genome.attn_mask[layer]
        attention = _cut_attention(architecture, weights, row)
        with torch.no_grad():
            found = attention(hidden[None], position_embeddings=tables, attention_mask=None)[0][0]
        wanted = _oracle(weights, hidden, tables, architecture.head_channels(row))
        assert (found - wanted).abs().max() < 1e-5
        still = torch.ones_like(tables[0]), torch.zeros_like(tables[1])
        straight = _oracle(weights, hidden, still, architecture.head_channels(row))
        # Turning does matter.
        seen += int((wanted - straight).abs().max() > 1e-3)
    assert seen


@pytest.mark.parametrize("case", ["llama-gqa-tied", "opt"])
def test_the_cache_goes_by_both_of_its_names(case: str) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, 1, "head_dim_split")
    layer = int(genome.cut_layers[0])
    block = dense.adapter.layers(build_subnet(dense, genome))[layer]
    hidden = torch.randn(1, 9, dense.architecture.hidden_size, generator=torch.Generator().manual_seed(0))
    found = []
    for name in ("past_key_values", "cache"):
        cache, parts = DynamicCache(), []
        # One token a step is causal without a mask.
        for step in range(9):
            options = {name: cache, "attention_mask": None}
            if case != "opt":
                options["position_embeddings"] = dense.model.model.rotary_emb(hidden, torch.tensor([[step]]))
            parts.append(block(hidden[:, step : step + 1], **options))
        assert cache.get_seq_length(block.self_attn.layer_idx) == 9
        found.append(torch.cat(parts, dim=1))
    assert torch.equal(*found)
    alone = block(hidden[:, 8:], **{**options, "cache": None})
    assert (alone - found[0][:, 8:]).abs().max() > 1e-3


@pytest.mark.parametrize("case", ["opt", "llama-gqa-tied"])
@pytest.mark.parametrize("mode", ["kv_group", "head_dim"])
def test_a_cache_of_another_kind_is_the_attention_functions_own(case: str, mode: str) -> None:
    """Continuous batching hands such a one through; whole heads run under it."""
    dense = dense_model(case)
    trunk = build_subnet(dense, random_genome(dense, 1, mode)).base_model
    seen: list[object] = []

    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: object, **options: Any) -> Any:
        seen.append(options["cache"])
        return sdpa_attention_forward(module, query, key, value, None, **options)

    ALL_ATTENTION_FUNCTIONS.register("nas-llm-test", attend)
    trunk.config._attn_implementation = "nas-llm-test"
    another = object()
    trunk(torch.arange(5)[None], cache=another, use_cache=False)
    assert seen
    assert all(cache is another for cache in seen)
