"""The first population: subnets by importance, spread evenly over the inheriting ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nas_llm.search.operators._base import Sampling
from nas_llm.search.operators._ratio import RatioMutation
from nas_llm.search.operators.repair import GenomeRepair
from nas_llm.settings import SamplingDefaults
from nas_llm.space import BoolArray, Genome, IntArray

_MAX_ANCHORS = 12


class ImportanceSampling(Sampling):
    """Draws distinct genomes inside the space and the constraints, the most important units of each layer inherited.

    A third of them (at most 12), evenly spaced from the largest to the smallest allowed inheriting ratio, or at the
    targets of the repair, are anchors: uniform over the layers, with the FFN giving first, because attention is dear
    where several query heads share a KV head. Two are the paper's initial subnet (the same gamma in every attention and
    FFN block). The others are anchors at stratified random ratios, spread by many far budget transfers.

    Args:
        repair: Knows space, scores, cost model and constraints.
        temperature: Softness of the choice of units that leave or enter by a budget transfer.
        start: Genomes from elsewhere that come first, repaired; for as many, the rest of the population is not drawn.
    """

    def __init__(
        self, repair: GenomeRepair, *, temperature: float = SamplingDefaults.temperature, start: Sequence[Genome] = ()
    ) -> None:
        self.repair = repair
        self.start = tuple(start)
        # Far moves of both kinds: what the layers are worth can only be learned from subnets that differ in them.
        self._mover = RatioMutation(
            repair.space,
            repair.scores,
            ratio_step=0.3,
            transfer_probability=0.8,
            group_probability=0.5,
            temperature=temperature,
        )

    def draw(self, count: int, rng: np.random.Generator) -> list[Genome]:
        """Draw ``count`` distinct genomes, fewer only where the space does not yield them.

        The largest genome that the constraints allow comes first, the dense model, if they allow it; then what
        the search is to start from.
        """
        largest, smallest = self.extremes(rng)
        high, low = self._ratio(largest), self._ratio(smallest)
        found = {largest.digest(): largest}

        def add(genome: Genome) -> None:
            repaired = self.repair(genome, rng=rng)
            if len(found) < count:
                found.setdefault(repaired.digest(), repaired)

        for genome in self.start:
            add(genome)
        evenly = np.linspace(high, low, min(max(2, count // 3), _MAX_ANCHORS))[1:]
        for ratio in self.repair.targets or evenly.tolist():
            add(self.anchor(ratio))
        for share in (1 / 3, 2 / 3):
            add(self.initial_subnet(high - share * (high - low)))
        for _ in range(20):
            missing = count - len(found)
            for ratio in high - (high - low) * (np.arange(missing) + rng.random(missing)) / max(missing, 1):
                add(self._spread(self.anchor(float(ratio)), rng))
        return list(found.values())

    def extremes(self, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """The largest and the smallest genome that the constraints allow."""
        space = self.repair.space
        largest = self.repair(self._at_counts(space.attn_high, space.mlp_high, space.head_high), rng=rng)
        return largest, self.repair(self._at_counts(space.attn_low, space.mlp_low, space.head_low), rng=rng)

    def anchor(self, ratio: float) -> Genome:
        """The genome of about this inheriting ratio that has all sublayers and is uniform over the layers.

        Only what the FFN cannot give is taken from the attention.
        """
        space, model = self.repair.space, self.repair.cost_model
        budget = ratio * model.dense.block_params
        layers = space.architecture.num_layers
        budget -= layers * (model.params_per_attention + model.params_per_ffn)
        channels = (budget - int(space.attn_high.sum()) * model.params_per_kv_group) / model.params_per_ffn_channel
        mlp = _diffuse(channels, space.mlp_low, space.mlp_high, space.align_ffn)
        groups = (budget - int(mlp.sum()) * model.params_per_ffn_channel) / model.params_per_kv_group
        attn, heads = space.attn_high.copy(), space.head_high
        if channels < space.mlp_low.sum():
            if space.layout.axes:
                share = groups / attn.sum() * space.architecture.head_dim
                heads = _diffuse(share * layers, space.head_low, space.head_high, space.align_head)
            else:
                attn = _diffuse(groups, space.attn_low, space.attn_high, space.clip_groups)
        return self._at_counts(attn, mlp, heads)

    def initial_subnet(self, gamma: float) -> Genome:
        """The paper's initial subnet: the top ``gamma`` of every attention and every FFN block."""
        space, architecture = self.repair.space, self.repair.space.architecture
        layers = range(architecture.num_layers)
        groups = gamma if not space.layout.axes else 1.0
        return self._at_counts(
            np.array([space.clip_groups(layer, groups * architecture.num_kv_heads) for layer in layers]),
            np.array([space.align_ffn(layer, gamma * architecture.intermediate_size) for layer in layers]),
            np.array([space.align_head(layer, gamma * architecture.head_dim) for layer in layers]),
        )

    def _spread(self, genome: Genome, rng: np.random.Generator) -> Genome:
        layers = genome.num_layers
        moves = int(rng.integers(layers // 2, layers + 1))
        return self._mover.move(genome, rng.integers(layers, size=max(1, moves)).tolist(), rng=rng)

    def _at_counts(self, groups: IntArray, channels: IntArray, heads: IntArray) -> Genome:
        """The most important units; every kind of unit inside heads keeps the same channels."""
        scores, axes = self.repair.scores, len(self.repair.space.layout.axes)
        attn: list[BoolArray] = [
            scores.top_attn(layer, count, [width] * axes)
            for layer, (count, width) in enumerate(zip(groups.tolist(), heads.tolist(), strict=True))
        ]
        mlp: list[BoolArray] = [scores.top_mlp(layer, count) for layer, count in enumerate(channels.tolist())]
        return Genome(np.stack(attn), np.stack(mlp), self.repair.space.layout)

    def _ratio(self, genome: Genome) -> float:
        return self.repair.cost_model(genome).inheriting_ratio


def _diffuse(total: float, low: IntArray, high: IntArray, align: Callable[[int, float], int]) -> IntArray:
    """Equal counts for all layers within their bounds, with rounding errors passed on from layer to layer."""
    floor, ceiling = 0.0, float(high.max())
    for _ in range(60):
        level = (floor + ceiling) / 2
        floor, ceiling = (level, ceiling) if np.clip(level, low, high).sum() < total else (floor, level)
    wanted = np.clip(ceiling, low, high)
    counts, carry = np.empty_like(low), 0.0
    for layer, share in enumerate(wanted.tolist()):
        counts[layer] = align(layer, share + carry)
        carry += share - counts[layer]
    return counts
