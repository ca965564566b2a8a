"""Which blocks and tensors a GGUF file holds: the subnet's, in the order and row order that llama.cpp reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.export._hosts import folding
from nas_llm.space import Architecture, Genome

# Width of an FFN that stands in for a removed one; a whole quantisation block, so every type can hold it.
STAND_IN_CHANNELS = 32

_RENAMED = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "input_layernorm": "attn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "post_attention_layernorm": "ffn_norm",
}


@dataclass(frozen=True, kw_only=True)
class GgufBlock:
    """One block of the file.

    Attributes:
        layer: The subnet's layer.
        heads: Query heads; 0 = no attention.
        kv_heads: KV heads; 0 = no attention.
        channels: FFN channels; 0 = no FFN.
        zero_attention: The attention is a stand-in: one head that adds zero.
        zero_ffn: The FFN is a stand-in that adds zero.
    """

    layer: int
    heads: int
    kv_heads: int
    channels: int
    zero_attention: bool = False
    zero_ffn: bool = False


def plan_blocks(genome: Genome, architecture: Architecture) -> list[GgufBlock]:
    """The blocks of a file, where llama.cpp needs it with stand-ins for removed sublayers.

    A block without any sublayer is the identity and is left out. llama.cpp drops the output of an attention that no
    FFN follows, and reads the width of all heads off the first block: there a removed sublayer becomes one of zero
    weights.

    Args:
        genome: The masks.
        architecture: The dense model's.
    """
    blocks: list[GgufBlock] = []
    for layer, (groups, channels) in enumerate(
        zip(genome.kv_groups.tolist(), genome.ffn_channels.tolist(), strict=True)
    ):
        if not groups and not channels:
            continue
        zero_attention = not blocks and not groups
        blocks.append(
            GgufBlock(
                layer=layer,
                heads=1 if zero_attention else groups * architecture.heads_per_group,
                kv_heads=1 if zero_attention else groups,
                channels=channels or STAND_IN_CHANNELS,
                zero_attention=zero_attention,
                zero_ffn=not channels,
            )
        )
    return blocks


def is_uniform(blocks: Sequence[GgufBlock]) -> bool:
    """Whether all blocks have the same sizes and both sublayers: then the file is a plain Llama."""
    return len({(block.heads, block.kv_heads, block.channels) for block in blocks}) == 1 and blocks[0].heads > 0


def tensors(subnet: PreTrainedModel, blocks: Sequence[GgufBlock], head_dim: int) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of the file, block by block; nothing is computed before it is asked for.

    Args:
        subnet: A subnet of the Llama family.
        blocks: From :func:`plan_blocks`.
        head_dim: Width of one head.
    """
    trunk = subnet.model
    fold = folding(subnet.config, head_dim)
    own_head = subnet.lm_head.weight is not trunk.embed_tokens.weight
    yield "token_embd.weight", _times(trunk.embed_tokens.weight, fold.embedding)
    yield "output_norm.weight", _times(trunk.norm.weight, 1.0 if own_head else fold.head)
    if own_head:
        yield "output.weight", _times(subnet.lm_head.weight, fold.head)
    factors = rope_factors(subnet, head_dim)
    if factors is not None:
        yield "rope_freqs.weight", factors
    for index, block in enumerate(blocks):
        for name, weight in trunk.layers[block.layer].state_dict().items():
            module = name.rpartition(".")[0]
            if module in {"self_attn.q_proj", "self_attn.k_proj"}:
                weight = interleaved(weight, head_dim)
            weight = _times(weight, fold.queries if module == "self_attn.q_proj" else 1.0)
            weight = _times(weight, fold.outputs if module in {"self_attn.o_proj", "mlp.down_proj"} else 1.0)
            yield tensor_name(index, name), weight
        for name, weight in _stand_ins(block, subnet.config.hidden_size, head_dim):
            yield f"blk.{index}.{name}.weight", weight


def _times(weight: Tensor, factor: float) -> Tensor:
    return weight if factor == 1.0 else weight * factor


def tensor_name(index: int, name: str) -> str:
    """What the file calls a weight of one of its blocks.

    Args:
        index: The block.
        name: Inside the block, as transformers calls it.
    """
    module, _, kind = name.rpartition(".")
    return f"blk.{index}.{_RENAMED[module]}.{kind}"


def interleaved(weight: Tensor, head_dim: int) -> Tensor:
    """Rows of a q or k projection from transformers' rotary order to llama.cpp's.

    transformers rotates row ``i`` of a head with row ``i + d/2``, llama.cpp row ``2i`` with row ``2i + 1``.

    Args:
        weight: ``heads * d x D`` weight or ``heads * d`` bias.
        head_dim: d.
    """
    halves = weight.unflatten(0, (-1, 2, head_dim // 2))
    rows: Tensor = halves.transpose(1, 2).reshape(weight.shape)
    return rows


def rope_factors(subnet: PreTrainedModel, head_dim: int) -> Tensor | None:
    """What each rotary frequency is divided by, ``d / 2`` floats; None for unscaled positions."""
    parameters = subnet.config.rope_parameters
    if parameters["rope_type"] == "default":
        return None
    # The model's own buffer may have been cast to a shorter type. Some types ask for the number of heads, of one layer.
    scaled: Tensor = type(subnet.model.rotary_emb)(subnet.config.per_layer_config[0]).inv_freq
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    unscaled: Tensor = 1.0 / parameters["rope_theta"] ** exponents
    return unscaled / scaled.float()


def _stand_ins(block: GgufBlock, hidden_size: int, head_dim: int) -> Iterator[tuple[str, Tensor]]:
    if block.zero_attention:
        yield "attn_norm", torch.ones(hidden_size)
        for name in ("attn_q", "attn_k", "attn_v"):
            yield name, torch.zeros(head_dim, hidden_size)
        yield "attn_output", torch.zeros(hidden_size, head_dim)
    if block.zero_ffn:
        yield "ffn_norm", torch.ones(hidden_size)
        for name in ("ffn_gate", "ffn_up"):
            yield name, torch.zeros(block.channels, hidden_size)
        yield "ffn_down", torch.zeros(hidden_size, block.channels)
