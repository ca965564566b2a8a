"""The set of operators of one search, built from its problem definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nas_llm.config import ConstraintSection, OperatorEntry, OperatorSection, named_operators
from nas_llm.plugins import Registry
from nas_llm.search.operators._base import Crossover, Mutation, OperatorContext, Sampling
from nas_llm.search.operators._mutation import GenomeMutation
from nas_llm.search.operators._registry import CROSSOVERS, MUTATIONS, SAMPLINGS, check_settings, make_operator, settable
from nas_llm.search.operators._sensitivity import SensitivityModel
from nas_llm.search.operators.repair import GenomeRepair, TargetRepair, repair_class
from nas_llm.space import CostConstraints, CostModel, Genome, SearchSpace, UnitScores

_REGISTRIES: Mapping[str, Registry[Any]] = {"sampling": SAMPLINGS, "crossover": CROSSOVERS, "mutation": MUTATIONS}


@dataclass(frozen=True, kw_only=True)
class Operators:
    """Everything that makes or mends genomes, and what further operators of the same search are made from."""

    sampling: Sampling
    crossover: Crossover
    crossover_probability: float
    mutation: Mutation
    repair: GenomeRepair
    sensitivities: SensitivityModel
    context: OperatorContext


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
    return repair_class(space)(space, scores, cost_model, CostConstraints(constraints))


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
        cost_model: Exact costs of genomes.
        constraints: ``[constraints]``.
        prices: The costs that guided moves are made at: the cost objectives.
        start: Genomes that the first population takes in.
        targets: Inheriting ratios that all genomes are brought to; none = any ratio.

    Raises:
        ConfigError: If an operator or one of its settings is unknown or not usable.
    """
    repair = build_repair(space, scores, cost_model, constraints, targets=targets)
    context = OperatorContext(
        space=space,
        scores=scores,
        cost_model=cost_model,
        repair=repair,
        sensitivities=SensitivityModel(space.architecture, space.layout, whole_groups=space.whole_groups),
        prices=tuple(prices),
        start=tuple(start),
    )
    return Operators(
        sampling=_made(section, context, "sampling")[0],
        crossover=_made(section, context, "crossover")[0],
        crossover_probability=section.crossover_probability,
        mutation=build_mutation(section, context),
        repair=repair,
        sensitivities=context.sensitivities,
        context=context,
    )


def build_mutation(section: OperatorSection, context: OperatorContext) -> GenomeMutation:
    """All mutations of a section in one.

    Raises:
        ConfigError: If one of them or of its settings is unknown or not usable.
    """
    return GenomeMutation(_made(section, context, "mutation"))


def check_operators(section: OperatorSection) -> None:
    """Refuse operators and settings that do not exist, before anything is loaded.

    Raises:
        ConfigError: Names the key.
    """
    for where, entry, kind, _ in named_operators(section):
        use, own = _parts(entry)
        check_settings(_REGISTRIES[kind].get(use, where=where), own, use=use, where=where)


def _parts(entry: str | OperatorEntry) -> tuple[str, dict[str, Any]]:
    return (entry, {}) if isinstance(entry, str) else (entry.use, entry.settings)


def _made(section: OperatorSection, context: OperatorContext, wanted: str) -> list[Any]:
    """The operators of one kind; one of the package takes from the section what its own entry does not say."""
    made, registry = [], _REGISTRIES[wanted]
    for where, entry, kind, _ in named_operators(section):
        if kind != wanted:
            continue
        use, own = _parts(entry)
        found = registry.get(use, where=where)
        known = settable(found)
        shared = _shared(use, section) if registry.use(use) is None else {}
        settings = {name: value for name, value in shared.items() if name in known} | own
        made.append(make_operator(found, context, settings, use=use, where=where))
    return made


def _shared(use: str, section: OperatorSection) -> Mapping[str, Any]:
    """The keys of the section that speak of an operator of the package."""
    return {
        "probability": getattr(section, f"{use}_probability", None),
        "alpha": section.alpha,
        "temperature": section.temperature,
        "ratio_step": section.ratio_step,
        "transfer_probability": section.transfer_probability,
    }
