"""Guided mutation: the budget moves to where the search has found it to be worth most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from nas_llm.search.operators._base import Mutation, check_shares
from nas_llm.search.operators._sensitivity import EXPONENT, Sensitivities, SensitivityModel
from nas_llm.settings import GuidedDefaults
from nas_llm.space import CostModel, FloatArray, Genome, IntArray, SearchSpace, UnitScores, resize_genome


class GuidedMutation(Mutation):
    """Shift a genome's counts towards the allocation that is best, at the same cost, under drawn sensitivities.

    Sensitivities are drawn from a model of all evaluations so far; the best allocation under them is where every
    layer loses the same quality for its next unit of cost. The genome goes a random part of the way there. Removed
    sublayers stay removed. Does nothing before the model is fitted.

    Args:
        space: Bounds and alignment.
        scores: Importance of all units.
        cost_model: Costs of units.
        sensitivities: What was learned.
        prices: The costs that are objectives, by name. One is kept; of several, a mix that is drawn for each move, so
            that no objective is the only one that moves are made for.
        probability: P_g, chance of a genome to be moved.
        temperature: Softness of the choice of units.

    Raises:
        ConfigError: If ``probability`` is out of range.
    """

    final: ClassVar[bool] = True

    def __init__(
        self,
        space: SearchSpace,
        scores: UnitScores,
        cost_model: CostModel,
        sensitivities: SensitivityModel,
        *,
        prices: Sequence[str],
        probability: float = GuidedDefaults.probability,
        temperature: float = GuidedDefaults.temperature,
    ) -> None:
        check_shares(probability=probability)
        self.space = space
        self.scores = scores
        self.model = sensitivities
        self.probability = probability
        self.temperature = temperature
        units = np.array([cost_model.unit_costs(name) for name in prices], dtype=np.float64)
        if len(units) > 1:
            units /= [[cost_model.dense.value(name)] for name in prices]
        self._units = units
        heads = np.array([cost_model.head_costs(name) for name in prices], dtype=np.float64)
        if len(heads) > 1:
            heads /= [[cost_model.dense.value(name)] for name in prices]
        self._heads = heads

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Move one genome, with the mutation probability."""
        if not self.model.fitted or rng.random() >= self.probability:
            return genome
        sensitivities = self.model.draw(rng)
        best_groups, best_widths, best_channels = self.best_counts(genome, sensitivities, *self._draw_costs(rng))
        part = rng.uniform(0.3, 1.0)
        groups = np.where(rng.random(genome.num_layers) < part, best_groups, genome.kv_groups)
        wanted = genome.ffn_channels + part * (best_channels - genome.ffn_channels)
        channels = genome.ffn_channels.copy()
        for layer in np.flatnonzero(channels).tolist():
            channels[layer] = self.space.align_ffn(layer, wanted[layer])
        widths = []
        for old, best in zip(genome.head_widths, best_widths, strict=True):
            width = old.copy()
            for layer in np.flatnonzero(genome.kv_groups).tolist():
                width[layer] = self.space.align_head(layer, old[layer] + part * (best[layer] - old[layer]))
            widths.append(width)
        return resize_genome(
            genome,
            kv_groups=groups,
            head_widths=widths,
            ffn_channels=channels,
            scores=self.scores,
            temperature=self.temperature,
            rng=rng,
        )

    def best_counts(
        self, genome: Genome, sensitivities: Sensitivities, unit_costs: FloatArray, head_costs: FloatArray | None = None
    ) -> tuple[IntArray, tuple[FloatArray, ...], FloatArray]:
        """The best KV groups, and (unaligned) channels of heads and FFNs, of present sublayers at the genome's cost.

        Args:
            genome: The genome.
            sensitivities: What all units of a sublayer are worth.
            unit_costs: Cost of a KV group and of an FFN channel.
            head_costs: Cost of a channel of q and k, and of one of v and o, in one KV head.
        """
        head_costs = np.zeros(2) if head_costs is None else head_costs
        # Of each kind of unit inside heads; one mask for both kinds costs both.
        heads = np.array([head_costs.sum()] if len(genome.head_widths) == 1 else head_costs)
        budget = _cost(genome, genome.kv_groups, genome.head_widths, genome.ffn_channels, unit_costs, heads)
        low, high = -60.0, 60.0
        for _ in range(60):
            middle = (low + high) / 2
            counts = self._at_price(genome, sensitivities, float(np.exp(middle)), unit_costs, heads)
            low, high = (middle, high) if _cost(genome, *counts, unit_costs, heads) > budget else (low, middle)
        return self._at_price(genome, sensitivities, float(np.exp(high)), unit_costs, heads)

    def _draw_costs(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Costs of a KV group and an FFN channel, and of channels of heads, in the one price or in a mix of all."""
        if len(self._units) == 1:
            return np.asarray(self._units[0], dtype=np.float64), np.asarray(self._heads[0], dtype=np.float64)
        mix = rng.dirichlet(np.ones(len(self._units)))
        return np.asarray(mix @ self._units, dtype=np.float64), np.asarray(mix @ self._heads, dtype=np.float64)

    def _at_price(
        self, genome: Genome, worth: Sensitivities, price: float, unit_costs: FloatArray, heads: FloatArray
    ) -> tuple[IntArray, tuple[FloatArray, ...], FloatArray]:
        """Counts at which no unit is kept that is worth less than its cost times ``price``."""
        space, a = self.space, self.space.architecture
        group_cost, channel_cost = unit_costs.tolist()
        # d/dn of s * (1 - n / N) ** p equals the price of a unit.
        slope = price * channel_cost * a.intermediate_size / (worth.mlp * EXPONENT)
        channels = a.intermediate_size * (1.0 - slope ** (1.0 / (EXPONENT - 1.0)))
        channels = np.where(genome.ffn_channels > 0, np.clip(channels, space.mlp_low, space.mlp_high), 0.0)
        widths = []
        for cost, own in zip(heads.tolist(), worth.heads, strict=False):
            slope = price * cost * genome.kv_groups * a.head_dim / (own * EXPONENT)
            width = a.head_dim * (1.0 - slope ** (1.0 / (EXPONENT - 1.0)))
            widths.append(np.where(genome.kv_groups > 0, np.clip(width, space.head_low, space.head_high), 0.0))
        if widths and space.whole_groups:
            return genome.kv_groups, tuple(widths), channels
        lost = np.arange(a.num_kv_heads + 1) / a.num_kv_heads
        gains = np.diff(lost**EXPONENT)[::-1]
        kept = (worth.attn[:, None] * gains > price * group_cost).sum(axis=1)
        groups = np.where(genome.kv_groups > 0, np.clip(kept, space.attn_low, space.attn_high), 0)
        return groups, tuple(widths), channels


def _cost(
    genome: Genome,
    groups: IntArray,
    widths: Sequence[IntArray | FloatArray],
    channels: IntArray | FloatArray,
    unit_costs: FloatArray,
    heads: FloatArray,
) -> float:
    """What counts cost: KV groups as whole ones, heads of the genome's KV groups by their channels."""
    inside = sum(float((genome.kv_groups * width).sum()) * cost for width, cost in zip(widths, heads, strict=False))
    whole = float(groups.sum() * unit_costs[0] + channels.sum() * unit_costs[1])
    return whole + inside if len(widths) else whole
