"""The set of operators of one search, built from its problem definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas_llm.config import ConstraintSection, OperatorSection
from nas_llm.search.operators._crossover import LayerwiseCrossover
from nas_llm.search.operators._depth import DepthMutation
from nas_llm.search.operators._guided import GuidedMutation
from nas_llm.search.operators._mask import MaskMutation
from nas_llm.search.operators._mutation import GenomeMutation
from nas_llm.search.operators._ratio import RatioMutation
from nas_llm.search.operators._repair import GenomeRepair
from nas_llm.search.operators._sampling import ImportanceSampling
from nas_llm.search.operators._sensitivity import SensitivityModel
from nas_llm.search.operators._target_repair import TargetRepair
from nas_llm.space import CostConstraints, CostModel, Genome, SearchSpace, UnitScores


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Everything that makes or mends genomes."""

    sampling: ImportanceSampling
    crossover: LayerwiseCrossover
    crossover_probability: float
    mutation: GenomeMutation
    repair: GenomeRepair
    sensitivities: SensitivityModel


def build_repair(
    space: SearchSpace,
    scores: UnitScores,
    cost_model: CostModel,
    constraints: ConstraintSection,
    *,
    targets: Sequence[float] = (),
) -> GenomeRepair:
    """The repair of a problem: to its targets if it has any, else into its constraints."""
    if targets:
        return TargetRepair(targets, space, scores, cost_model, constraints)
    return GenomeRepair(space, scores, cost_model, CostConstraints(constraints))


def build_operators(
    section: OperatorSection,
    *,
    space: SearchSpace,
    scores: UnitScores,
    cost_model: CostModel,
    constraints: ConstraintSection,
    prices: Sequence[str] = ("macs_per_token",),
    start: Sequence[Genome] = (),
    targets: Sequence[float] = (),
) -> Operators:
    """Build the operators of a problem.

    Args:
        section: ``[search.operators]``.
        space: Where genomes have to lie.
        scores: Importance of all units.
        cost_model: Prices genomes.
        constraints: ``[constraints]``.
        prices: The costs that guided moves are made at: the cost objectives.
        start: Genomes that the first population takes in.
        targets: Inheriting ratios that all genomes are brought to; none = any ratio.
    """
    ratio = RatioMutation(
        space,
        scores,
        probability=section.ratio_probability,
        ratio_step=section.ratio_step,
        transfer_probability=section.transfer_probability,
        temperature=section.temperature,
    )
    mask = MaskMutation(
        scores, probability=section.mask_probability, alpha=section.alpha, temperature=section.temperature
    )
    repair = build_repair(space, scores, cost_model, constraints, targets=targets)
    sensitivities = SensitivityModel(space.architecture)
    guided = GuidedMutation(
        space,
        scores,
        cost_model,
        sensitivities,
        prices=prices,
        probability=section.guided_probability,
        temperature=section.temperature,
    )
    depth = DepthMutation(space, scores, probability=section.depth_probability)
    return Operators(
        sampling=ImportanceSampling(repair, temperature=section.temperature, start=start),
        crossover=LayerwiseCrossover(section.crossover),
        crossover_probability=section.crossover_probability,
        mutation=GenomeMutation(mask, ratio, depth, guided),
        repair=repair,
        sensitivities=sensitivities,
    )
