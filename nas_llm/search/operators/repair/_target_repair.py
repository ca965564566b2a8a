"""Repair to a few inheriting ratios: the budget of a search goes where models are wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nas_llm.config import ConstraintSection
from nas_llm.search.operators.repair._head_repair import HeadRepair
from nas_llm.search.operators.repair._repair import GenomeRepair
from nas_llm.space import CostConstraints, CostModel, Genome, SearchSpace, UnitScores, check_feasible


class TargetRepair(GenomeRepair):
    """Bring a genome to the nearest of some inheriting ratios, from below, and inside the cost constraints.

    Genomes of one target differ in cost by less than the smallest step of the space, so they compete by quality alone,
    and every target keeps its share of the population.

    Args:
        targets: Inheriting ratios, in (0, 1].
        space: Where genomes have to lie.
        scores: Importance of all units.
        cost_model: Exact costs of genomes.
        constraints: Bounds on the cost; no target may contradict them.

    Raises:
        SpaceError: If no genome of the space meets a target.
    """

    def __init__(
        self,
        targets: Sequence[float],
        space: SearchSpace,
        scores: UnitScores,
        cost_model: CostModel,
        constraints: ConstraintSection,
    ) -> None:
        sections = [_at_target(target, space, cost_model, constraints) for target in targets]
        for section in sections:
            check_feasible(space, cost_model, CostConstraints(section))
        super().__init__(space, scores, cost_model, CostConstraints(constraints))
        self.targets = tuple(targets)
        kind = repair_class(space)
        self._repairs = [kind(space, scores, cost_model, CostConstraints(section)) for section in sections]

    def __call__(self, genome: Genome, *, rng: np.random.Generator) -> Genome:
        """Repair one genome."""
        ratio = self.cost_model(genome).inheriting_ratio
        nearest = int(np.argmin([abs(target - ratio) for target in self.targets]))
        return self._repairs[nearest](genome, rng=rng)

    def accepts(self, genome: Genome) -> bool:
        """Whether a genome needs no repair."""
        return any(repair.accepts(genome) for repair in self._repairs)


def repair_class(space: SearchSpace) -> type[GenomeRepair]:
    """What repairs genomes of a space."""
    return HeadRepair if space.layout.axes else GenomeRepair


def _at_target(
    target: float, space: SearchSpace, cost_model: CostModel, constraints: ConstraintSection
) -> ConstraintSection:
    step = space.ffn_multiple * cost_model.params_per_ffn_channel / cost_model.dense.block_params
    return constraints.model_copy(update={"min_ratio": max(target - step, step), "max_ratio": target})
