"""Operators on genomes: sampling, crossover, mutations, repair, selection, and what guides them."""

from nas_llm.search.operators._base import Crossover, Mutation, OperatorContext, Sampling, checked_genomes
from nas_llm.search.operators._build import (
    Operators,
    build_mutation,
    build_operators,
    build_repair,
    check_operators,
)
from nas_llm.search.operators._crossover import LayerwiseCrossover
from nas_llm.search.operators._depth import DepthMutation
from nas_llm.search.operators._guided import GuidedMutation
from nas_llm.search.operators._mask import MaskMutation
from nas_llm.search.operators._mutation import GenomeMutation
from nas_llm.search.operators._ratio import RatioMutation
from nas_llm.search.operators._registry import (
    CROSSOVERS,
    MUTATIONS,
    SAMPLINGS,
    register_crossover,
    register_mutation,
    register_sampling,
)
from nas_llm.search.operators._sampling import ImportanceSampling
from nas_llm.search.operators._selection import AssortativeSelection
from nas_llm.search.operators._sensitivity import Sensitivities, SensitivityModel
from nas_llm.search.operators._uniform import uniform_genomes
from nas_llm.search.operators.repair import GenomeRepair, TargetRepair

__all__ = [
    "CROSSOVERS",
    "MUTATIONS",
    "SAMPLINGS",
    "AssortativeSelection",
    "Crossover",
    "DepthMutation",
    "GenomeMutation",
    "GenomeRepair",
    "GuidedMutation",
    "ImportanceSampling",
    "LayerwiseCrossover",
    "MaskMutation",
    "Mutation",
    "OperatorContext",
    "Operators",
    "RatioMutation",
    "Sampling",
    "Sensitivities",
    "SensitivityModel",
    "TargetRepair",
    "build_mutation",
    "build_operators",
    "build_repair",
    "check_operators",
    "checked_genomes",
    "register_crossover",
    "register_mutation",
    "register_sampling",
    "uniform_genomes",
]
