"""Facts for exports of test models."""

from __future__ import annotations

from nas_llm.export import Provenance
from nas_llm.models import DenseModel
from nas_llm.space import CostModel, Genome


def provenance(dense: DenseModel, genome: Genome) -> Provenance:
    """Where a subnet of a test model comes from."""
    costs = CostModel(dense.architecture, sequence_length=64)
    return Provenance(
        base_model=dense.source,
        base_revision=dense.revision,
        problem="a-problem",
        seed=7,
        point="p03",
        genome=genome,
        cost=costs(genome),
        dense_cost=costs.dense,
        sequence_length=64,
        weights="inherited as they are",
        texts={},
        perplexities={},
        reproduce=("nas-llm search a-problem",),
    )
