"""Cost of a genome: parameters, MACs, KV-cache bytes, predicted latency and others' costs; no weight is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from nas_llm.errors import SpaceError
from nas_llm.settings import CostDefaults
from nas_llm.space._architecture import Architecture
from nas_llm.space._further_cost import FurtherCost, GenomeCost, SizeCost
from nas_llm.space._genome import Genome
from nas_llm.space._latency import LatencyTable
from nas_llm.space.objectives import CostObjective, objective


@dataclass(frozen=True)
class Cost:
    """What a subnet costs.

    Attributes:
        block_params: Parameters inside decoder blocks, norms excluded.
        params: All parameters, a tied LM head counted once.
        macs_per_token: Multiply-accumulates per token at the model's stated sequence length; FLOPs = 2 x MACs.
        kv_cache_bytes: KV-cache bytes per token.
        inheriting_ratio: gamma, ``block_params`` over those of the dense model; sparsity = 1 - gamma.
        latency: Seconds of one forward pass as a latency table predicts them; None without a table.
        further: Costs that the package does not compute itself, by the name of their objective.
    """

    block_params: int
    params: int
    macs_per_token: int
    kv_cache_bytes: int
    inheriting_ratio: float
    latency: float | None = None
    further: Mapping[str, float] = field(default_factory=dict, hash=False)

    def value(self, name: str) -> float:
        """One of the costs.

        Args:
            name: One of :data:`COST_NAMES`, or of a further cost.

        Raises:
            SpaceError: If it is not known.
        """
        found = getattr(self, name) if name in COST_NAMES else self.further.get(name)
        if found is None:
            known = [*(name for name in COST_NAMES if getattr(self, name) is not None), *self.further]
            raise SpaceError(f"the cost {name!r} is not known here; known are {', '.join(known)}")
        return float(found)

    @property
    def optional(self) -> Mapping[str, float]:
        """Costs that not every model has, by name: the predicted latency and the further ones."""
        return {**({} if self.latency is None else {"latency": self.latency}), **self.further}


CACHE_BYTES_PER_VALUE = 2
"""Bytes of one KV-cache entry as costs state them: bf16 or fp16."""

COST_NAMES = ("block_params", "params", "macs_per_token", "kv_cache_bytes", "inheriting_ratio", "latency")


class CostModel:
    """Computes what genomes of one architecture cost; no cost falls with an inherited unit.

    MACs are those that ``torch.utils.flop_counter`` counts for a prefill of ``sequence_length`` tokens with eager
    attention: every weight matrix, LM head included, full (not causal-halved) score and value products.

    Args:
        architecture: The dense model.
        sequence_length: Tokens over which attention products are averaged.
        cache_bytes_per_value: Bytes of one KV-cache entry, 2 for bf16/fp16.
        latency: Measured times of the architecture's sublayers.
        further: Objectives whose costs the package does not compute itself: classes, or objects made of them.
        sized: Costs that follow from parameters and KV cache.
        timed: Costs that are predicted from measured times.

    Raises:
        SpaceError: If ``sequence_length`` is not positive, the table is one of another architecture, or a further cost
            cannot be computed or is not above 0 for the dense model.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        sequence_length: int = CostDefaults.sequence_length,
        cache_bytes_per_value: int = CACHE_BYTES_PER_VALUE,
        latency: LatencyTable | None = None,
        further: Sequence[CostObjective | type[CostObjective]] = (),
        sized: Sequence[SizeCost] = (),
        timed: Sequence[GenomeCost] = (),
    ) -> None:
        if sequence_length < 1:
            raise SpaceError(f"sequence_length must be positive, got {sequence_length}")
        self.architecture = architecture
        self.sequence_length = sequence_length
        self.cache_bytes_per_value = cache_bytes_per_value
        self.latency = latency
        a = architecture
        if latency is not None and (latency.kv_groups[-1], latency.ffn_channels[-1]) != (
            a.num_kv_heads,
            a.intermediate_size,
        ):
            raise SpaceError(
                f"the latency table goes up to {latency.kv_groups[-1]} KV groups and {latency.ffn_channels[-1]} FFN "
                f"channels, the model has {a.num_kv_heads} and {a.intermediate_size}"
            )
        matrices = 3 if a.gated_mlp else 2
        # Of one channel of a KV head: its rows of q and k or its row of v and columns of o, the query heads' included.
        self._head_weights = a.hidden_size * (a.heads_per_group + 1)
        self.params_per_qk_channel = self._head_weights + (a.heads_per_group + 1) * a.qkv_bias
        self.params_per_vo_channel = self._head_weights + a.qkv_bias
        self.params_per_kv_group = a.head_dim * (self.params_per_qk_channel + self.params_per_vo_channel)
        self._channel_weights = matrices * a.hidden_size
        self.params_per_ffn_channel = self._channel_weights + (matrices - 1) * a.mlp_bias
        self.params_per_attention = a.hidden_size * a.o_bias
        self.params_per_ffn = a.hidden_size * a.mlp_bias
        own: list[GenomeCost] = [*(FurtherCost(given, architecture) for given in further), *timed]
        self._further = {cost.name: cost for cost in own}
        self._sized = {cost.name: cost for cost in sized}
        names = [*(cost.name for cost in own), *(cost.name for cost in sized)]
        if len(set(names)) < len(names):
            raise SpaceError(f"further costs need different names, got {', '.join(names)}")
        self.dense = self(Genome.dense(architecture))

    def __call__(self, genome: Genome) -> Cost:
        """The cost of a genome.

        Raises:
            SpaceError: If the masks do not have the architecture's shape.
        """
        a = self.architecture
        if not genome.fits(a):
            raise SpaceError(
                f"genome has masks {genome.attn_mask.shape} and {genome.mlp_mask.shape}, the model needs "
                f"{(a.num_layers, a.attention_layout(genome.layout.mode).units)} and "
                f"{(a.num_layers, a.intermediate_size)}"
            )
        cost = self.from_counts(**genome.counts.totals)
        if self.latency is not None:
            cost = replace(cost, latency=self.latency(genome))
        if self._further:
            others = {name: further(genome) for name, further in self._further.items()}
            cost = replace(cost, further={**cost.further, **others})
        return cost

    def knows(self, name: str) -> bool:
        """Whether this cost can be told of every genome.

        Args:
            name: Of a cost.
        """
        return name in self._further or name in self.dense.optional or name in COST_NAMES[:-1]

    def unit_costs(self, name: str) -> tuple[float, float]:
        """What one more KV group and one more FFN channel cost in a sublayer that is there.

        Args:
            name: One of :data:`COST_NAMES`, or of a further cost. What is no sum over units (latency) counts with its
                mean slope.

        Raises:
            SpaceError: If the cost is not known.
        """
        if name in self._further:
            return self._further[name].unit_costs
        if objective(name).timed and self.latency is not None:
            return self.latency.unit_seconds
        counts = {"groups": 0, "channels": 0, "attention_layers": 1, "ffn_layers": 1}
        base, group, channel = (
            self.from_counts(**{**counts, **more}).value(name) for more in ({}, {"groups": 1}, {"channels": 1})
        )
        return group - base, channel - base

    def head_costs(self, name: str) -> tuple[float, float]:
        """What one more channel of q and k, and one more of v and o, costs in one KV head that is there.

        Args:
            name: One of :data:`COST_NAMES`, or of a further cost. What is no sum over channels (latency, a further
                cost) counts with half a KV group's share.

        Raises:
            SpaceError: If the cost is not known.
        """
        if name in self._further or objective(name).timed:
            share = self.unit_costs(name)[0] / (2 * self.architecture.head_dim)
            return share, share
        counts = {
            "groups": 1,
            "channels": 0,
            "attention_layers": 1,
            "ffn_layers": 1,
            "qk_channels": 1,
            "vo_channels": 1,
        }
        base, qk, vo = (
            self.from_counts(**{**counts, **more}).value(name) for more in ({}, {"qk_channels": 2}, {"vo_channels": 2})
        )
        return qk - base, vo - base

    def from_counts(
        self,
        *,
        groups: int,
        channels: int,
        attention_layers: int,
        ffn_layers: int,
        qk_channels: int | None = None,
        vo_channels: int | None = None,
    ) -> Cost:
        """The cost of totals over all layers: all costs that are linear in them; the others are left out.

        Args:
            groups: KV groups.
            channels: FFN channels.
            attention_layers: Attention sublayers that are there.
            ffn_layers: FFN sublayers that are there.
            qk_channels: Channels of k, all KV heads together; default: those of whole heads.
            vo_channels: Channels of v, likewise.
        """
        a = self.architecture
        qk = groups * a.head_dim if qk_channels is None else qk_channels
        vo = groups * a.head_dim if vo_channels is None else vo_channels
        block = (
            qk * self.params_per_qk_channel
            + vo * self.params_per_vo_channel
            + channels * self.params_per_ffn_channel
            + attention_layers * self.params_per_attention
            + ffn_layers * self.params_per_ffn
        )
        sublayer_norms = 2 * a.num_layers if a.norm_outside else attention_layers + ffn_layers
        projections = 0 if a.embedding_size == a.hidden_size else 2 * a.embedding_size * a.hidden_size
        head = a.vocab_size * a.embedding_size
        outside = (
            head * (1 if a.tied_embeddings else 2)
            + a.position_parameters
            + projections
            + a.norm_parameters * (sublayer_norms + a.final_norm)
            + a.attn_norm_parameters * attention_layers
            + a.mlp_norm_parameters * ffn_layers
        )
        attention_products = self.sequence_length * a.heads_per_group
        macs = (qk + vo) * (self._head_weights + attention_products) + channels * self._channel_weights
        sizes = {"params": block + outside, "kv_cache_bytes": (qk + vo) * CACHE_BYTES_PER_VALUE}
        return Cost(
            block_params=block,
            params=block + outside,
            macs_per_token=macs + head + projections,
            kv_cache_bytes=(qk + vo) * self.cache_bytes_per_value,
            inheriting_ratio=block / self._dense_block_params,
            further={name: cost.of_size(**sizes) for name, cost in self._sized.items()},
        )

    @property
    def _dense_block_params(self) -> int:
        a = self.architecture
        return a.num_layers * (
            a.num_kv_heads * self.params_per_kv_group
            + a.intermediate_size * self.params_per_ffn_channel
            + self.params_per_attention
            + self.params_per_ffn
        )
