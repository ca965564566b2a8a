"""Heads that keep some of their channels only, filled up with zeros for formats that have one head width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from nas_llm.models import DenseModel
from nas_llm.space import CostModel, Genome

# Of FFN channels in filled layers: a block of llama.cpp's simplest quantised type.
_FFN_MULTIPLE = 32


@dataclass(frozen=True, kw_only=True)
class Padding:
    """What a padded file does not save; of each pair the first is the file's, the second without the zeros.

    Attributes:
        format: Name of the format.
        layers: Layers that were padded.
        head_dim: Channels of a head in the file.
        sizes: KV groups and FFN channels of every layer of the file, where layers were filled up to the largest; None
            where only heads were.
        weight_bytes: Bytes of all weights in the file's types.
        kv_cache_bytes: KV-cache bytes per token, 16 bit.
        macs_per_token: MACs per token at the sequence length of the provenance.
    """

    format: str
    layers: tuple[int, ...]
    head_dim: int
    weight_bytes: tuple[int, int]
    kv_cache_bytes: tuple[int, int]
    macs_per_token: tuple[int, int]
    sizes: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain-data form, for ``nas_llm.json``."""
        pairs = {name: getattr(self, name) for name in ("weight_bytes", "kv_cache_bytes", "macs_per_token")}
        return {
            "layers": list(self.layers),
            "head_dim": self.head_dim,
            **({} if self.sizes is None else {"kv_groups": self.sizes[0], "ffn_channels": self.sizes[1]}),
            **{name: {"file": file, "without_zeros": without} for name, (file, without) in pairs.items()},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class PaddedSubnet:
    """A subnet that computes what another one does, with whole heads.

    Attributes:
        model: It; what is not padded is shared with the other.
        genome: Its sizes: the KV heads of the other, whole.
        zeros: How many zeros were put into each of its weights, by name.
    """

    model: PreTrainedModel
    genome: Genome
    zeros: Mapping[str, int]

    def padding(
        self,
        format: str,
        genome: Genome,
        dense: DenseModel,
        *,
        weight_bytes: int,
        zero_bytes: int,
        sequence_length: int,
    ) -> Padding:
        """What the zeros cost.

        Args:
            format: Name of the format.
            genome: The masks of the other subnet.
            dense: The model that it inherits from.
            weight_bytes: Bytes of all weights in the file.
            zero_bytes: Those of the zeros.
            sequence_length: Length at which MACs are stated.
        """
        costs = CostModel(dense.architecture, sequence_length=sequence_length)
        padded, own = costs(self.genome), costs(genome)
        sizes = int(self.genome.kv_groups[0]), int(self.genome.ffn_channels[0])
        return Padding(
            format=format,
            sizes=sizes if alike(self.genome) and not alike(genome) else None,
            layers=padded_layers(genome, self.genome),
            head_dim=dense.architecture.head_dim,
            weight_bytes=(weight_bytes, weight_bytes - zero_bytes),
            kv_cache_bytes=(padded.kv_cache_bytes, own.kv_cache_bytes),
            macs_per_token=(padded.macs_per_token, own.macs_per_token),
        )


def pad_heads(subnet: PreTrainedModel, dense: DenseModel, genome: Genome) -> PaddedSubnet:
    """Fill heads up with zero channels to the dense width.

    Every channel stands where it stands in the dense head, so that rotary pairs meet their own frequencies. Zero
    channels of q and k add nothing to a score, those of v meet zero columns of o: the logits stay.

    Args:
        subnet: A subnet of the genome, its heads as they are; left as it is.
        dense: The model that it inherits from.
        genome: Its masks.
    """
    adapter, architecture, whole = dense.adapter, dense.architecture, genome.whole_heads()
    config = adapter.subnet_config(dense.model.config, whole)
    with torch.device("meta"):
        padded: PreTrainedModel = adapter.modeling(dense.model.config.model_type).MODEL_CLASS(config)
    names, prefix = adapter.names, dense.block_prefix
    state, zeros = dict(subnet.state_dict()), {}
    for layer in genome.cut_layers.tolist():
        del state[f"{prefix}.{layer}.{names.kept_units}"]
        qk, vo = (torch.from_numpy(mask[mask.any(-1)]) for mask in architecture.head_channels(genome.attn_mask[layer]))
        queries = architecture.heads_per_group
        for module, dim, kept in (
            (names.q, 0, qk.repeat_interleave(queries, 0)),
            (names.k, 0, qk),
            (names.v, 0, vo),
            (names.o, 1, vo.repeat_interleave(queries, 0)),
        ):
            for kind in ("weight", "bias"):
                name = f"{prefix}.{layer}.{module}.{kind}"
                # The bias of o is one of the residual stream.
                if name not in state or (module == names.o and kind == "bias"):
                    continue
                before = state[name]
                state[name] = _spread(before, kept.reshape(-1), dim)
                zeros[name] = state[name].numel() - before.numel()
    padded.load_state_dict(state, assign=True)
    _share_buffers(padded, subnet, state)
    return PaddedSubnet(model=padded, genome=whole, zeros=zeros)


def alike(genome: Genome) -> bool:
    """Whether all layers have the same sizes and both sublayers."""
    groups, channels = set(genome.kv_groups.tolist()), set(genome.ffn_channels.tolist())
    return len(groups) == len(channels) == 1 and 0 not in groups | channels


def filled(genome: Genome) -> Genome:
    """The sizes of a subnet whose layers are all filled up to the largest.

    Args:
        genome: The masks; whole heads.

    Returns:
        The genome itself if its layers are alike; else, in each layer, the first so many KV groups and FFN channels, of
        those a multiple of 32 where the dense model has as many.
    """
    if alike(genome):
        return genome
    groups, channels = max(1, int(genome.kv_groups.max())), max(1, int(genome.ffn_channels.max()))
    channels = min(genome.mlp_mask.shape[1], -(-channels // _FFN_MULTIPLE) * _FFN_MULTIPLE)
    attn, mlp = np.zeros_like(genome.attn_mask), np.zeros_like(genome.mlp_mask)
    attn[:, :groups] = mlp[:, :channels] = True
    return Genome(attn, mlp)


def padded_layers(genome: Genome, written: Genome) -> tuple[int, ...]:
    """Layers that are smaller than in the file, or have heads that are.

    Args:
        genome: The masks of a subnet.
        written: The sizes of the file.
    """
    smaller = (genome.kv_groups < written.kv_groups) | (genome.ffn_channels < written.ffn_channels)
    if not written.cut_layers.size:
        smaller[genome.cut_layers] = True
    return tuple(np.flatnonzero(smaller).tolist())


def pad_layers(subnet: PreTrainedModel, dense: DenseModel, genome: Genome, target: Genome) -> PaddedSubnet:
    """Fill layers up with zero heads and zero channels: the logits stay, also behind norms, which make zero of zero.

    Args:
        subnet: A subnet of the genome; left as it is.
        dense: The model that it inherits from.
        genome: Its masks; whole heads.
        target: What :func:`filled` made of it.
    """
    config = dense.adapter.subnet_config(dense.model.config, target)
    with torch.device("meta"):
        padded: PreTrainedModel = dense.adapter.modeling(dense.model.config.model_type).MODEL_CLASS(config)
    own, state, zeros = subnet.state_dict(), {}, {}
    for name, wanted in padded.state_dict().items():
        weight = own.get(name)
        if weight is not None and weight.shape == wanted.shape:
            state[name] = weight
            continue
        # Norms of a sublayer that is not there meet zeros, whatever they are.
        state[name] = torch.zeros(wanted.shape, dtype=subnet.dtype)
        zeros[name] = state[name].numel() - (0 if weight is None else weight.numel())
        if weight is not None:
            state[name][tuple(slice(size) for size in weight.shape)] = weight
    padded.load_state_dict(state, assign=True)
    _share_buffers(padded, subnet, state)
    return PaddedSubnet(model=padded, genome=target, zeros=zeros)


def _share_buffers(padded: PreTrainedModel, subnet: PreTrainedModel, state: Mapping[str, Tensor]) -> None:
    """Give a model what is not part of its state dict, and make it ready."""
    for name, buffer in subnet.named_buffers():
        # Rotary tables are not part of a state dict; the meta model has none to compute them from.
        owner, _, leaf = name.rpartition(".")
        if name not in state and leaf in dict(padded.get_submodule(owner).named_buffers()):
            setattr(padded.get_submodule(owner), leaf, buffer)
    padded.tie_weights()
    padded.generation_config = subnet.generation_config
    padded.eval().requires_grad_(False)


def _spread(weight: Tensor, places: Tensor, dim: int) -> Tensor:
    """Rows or columns at the places that are True, zeros at the others."""
    shape = list(weight.shape)
    shape[dim] = len(places)
    spread = weight.new_zeros(shape)
    return spread.index_copy_(dim, places.nonzero()[:, 0].to(weight.device), weight.detach())
