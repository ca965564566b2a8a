"""The search: operators on genomes, pymoo algorithms around them, a loop that survives being killed. No torch here."""

from nas_llm.search._algorithm import algorithm_names, build_algorithm
from nas_llm.search._cache import EvaluationCache
from nas_llm.search._checkpoint import CheckpointStore, SearchState
from nas_llm.search._constraints import CostConstraints
from nas_llm.search._crossover import LayerwiseCrossover
from nas_llm.search._depth_mutation import DepthMutation
from nas_llm.search._descent import BudgetDescent, DescentStep, MarginalSource
from nas_llm.search._duplicates import DigestDuplicates
from nas_llm.search._evaluator import Evaluator, OnResult, RacingEvaluator
from nas_llm.search._feasible import check_feasible
from nas_llm.search._front import knee, non_dominated, thin_front
from nas_llm.search._guided_mutation import GuidedMutation
from nas_llm.search._history import Evaluation, History
from nas_llm.search._hypervolume import WORST_COST, WORST_QUALITY, normalised_hypervolume, search_scale
from nas_llm.search._lock import RunLock
from nas_llm.search._loop import SearchResult
from nas_llm.search._mask_mutation import MaskMutation
from nas_llm.search._mutation import GenomeMutation
from nas_llm.search._operators import Operators, build_operators, build_repair
from nas_llm.search._problem import SubnetProblem
from nas_llm.search._pymoo import PymooCrossover, PymooMutation, PymooRepair, PymooSampling, genome_column
from nas_llm.search._ratio_mutation import RatioMutation
from nas_llm.search._ray import RayEvaluator, RayPool
from nas_llm.search._repair import GenomeRepair
from nas_llm.search._resize import resize_genome, resize_mask
from nas_llm.search._runner import Search
from nas_llm.search._sampling import ImportanceSampling
from nas_llm.search._selection import AssortativeSelection
from nas_llm.search._sensitivity import Sensitivities, SensitivityModel
from nas_llm.search._target_repair import TargetRepair
from nas_llm.search._weighted_choice import weighted_choice

__all__ = [
    "WORST_COST",
    "WORST_QUALITY",
    "AssortativeSelection",
    "BudgetDescent",
    "CheckpointStore",
    "CostConstraints",
    "DepthMutation",
    "DescentStep",
    "DigestDuplicates",
    "Evaluation",
    "EvaluationCache",
    "Evaluator",
    "GenomeMutation",
    "GenomeRepair",
    "GuidedMutation",
    "History",
    "ImportanceSampling",
    "LayerwiseCrossover",
    "MarginalSource",
    "MaskMutation",
    "OnResult",
    "Operators",
    "PymooCrossover",
    "PymooMutation",
    "PymooRepair",
    "PymooSampling",
    "RacingEvaluator",
    "RatioMutation",
    "RayEvaluator",
    "RayPool",
    "RunLock",
    "Search",
    "SearchResult",
    "SearchState",
    "Sensitivities",
    "SensitivityModel",
    "SubnetProblem",
    "TargetRepair",
    "algorithm_names",
    "build_algorithm",
    "build_operators",
    "build_repair",
    "check_feasible",
    "genome_column",
    "knee",
    "non_dominated",
    "normalised_hypervolume",
    "resize_genome",
    "resize_mask",
    "search_scale",
    "thin_front",
    "weighted_choice",
]
