"""Repair into limits of predicted seconds, which are no sums over units."""

from __future__ import annotations

import numpy as np
import pytest
from synthetic_search import architecture, unit_scores

from nas_llm.config import Bounds
from nas_llm.search.operators import build_repair
from nas_llm.space import CostModel, Genome, SearchSpace

MODES = ("kv_group", "head_dim", "head_dim_split", ("kv_group", "head_dim"))


class Stairs:
    """Seconds of a sublayer: something for being there, and less for each unit the more there are."""

    name = "chat.seconds"
    unit_costs = (1.0, 0.1)

    def __call__(self, genome: Genome) -> float:
        widths = sum(genome.head_widths) if genome.head_widths else np.full(genome.num_layers, 8)
        attention = np.sqrt(genome.kv_groups * widths)
        ffn = np.ceil(genome.ffn_channels / 8) + (genome.ffn_channels > 0)
        return float(5.0 + attention.sum() + ffn.sum())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_whatever_the_space_reaches_is_met(mode: str | tuple[str, ...], share: float) -> None:
    sizes = architecture(num_layers=6, num_heads=4, num_kv_heads=4, head_dim=8, intermediate_size=64)
    space = SearchSpace(sizes, attention=mode, ffn_multiple=8, min_attn_layers=4)
    model = CostModel(sizes, timed=[Stairs()])
    low, high = (model(space.extreme_genome(largest=end)).value("chat.seconds") for end in (False, True))
    limit = low + share * (high - low)
    bounds = Bounds(further=(("workload.chat.max_seconds", "chat.seconds", limit),))
    scores = unit_scores(sizes, 0, space.layout)
    repair = build_repair(space, scores, model, bounds)
    dense = Genome.dense(sizes, space.layout)
    for seed in range(10):
        repaired = repair(dense, rng=np.random.default_rng(seed))
        assert space.violations(repaired) == []
        assert model(repaired).value("chat.seconds") <= limit
        assert repair(repaired, rng=np.random.default_rng(seed)) is repaired


@pytest.mark.parametrize("mode", MODES)
def test_extreme_genomes_have_the_extreme_totals(mode: str | tuple[str, ...]) -> None:
    sizes = architecture(num_layers=5, num_heads=4, num_kv_heads=2, head_dim=8, intermediate_size=64)
    space = SearchSpace(
        sizes, attention=mode, ffn_multiple=8, min_attn_layers=3, min_mlp_layers=0, protected_layers=(1,)
    )
    for largest in (False, True):
        genome = space.extreme_genome(largest=largest)
        totals = space.extreme_counts(largest=largest)
        assert space.violations(genome) == []
        assert {name: genome.counts.totals[name] for name in totals} == totals


def test_a_target_and_limits_of_a_workload_hold_together() -> None:
    sizes = architecture(num_layers=6, num_heads=4, num_kv_heads=4, head_dim=8, intermediate_size=64)
    space = SearchSpace(sizes, ffn_multiple=8)
    model = CostModel(sizes, timed=[Stairs()])
    bounds = Bounds(further=(("workload.chat.max_seconds", "chat.seconds", model.dense.value("chat.seconds")),))
    repair = build_repair(space, unit_scores(sizes), model, bounds, targets=(0.8,))
    repaired = repair(Genome.dense(sizes), rng=np.random.default_rng(0))
    assert model(repaired).inheriting_ratio <= 0.8
