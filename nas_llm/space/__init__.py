"""The search space: genomes, their bounds, their exact costs. Nothing here imports torch."""

from nas_llm.space._architecture import Architecture
from nas_llm.space._constraints import CostConstraints
from nas_llm.space._cost import COST_NAMES, Cost, CostModel
from nas_llm.space._evaluation import Evaluation
from nas_llm.space._feasible import FeasibleTotals, check_feasible
from nas_llm.space._genome import GENOME_FILE, BoolArray, Genome, IntArray
from nas_llm.space._latency import LatencyTable
from nas_llm.space._marginals import Marginals
from nas_llm.space._resize import resize_genome, resize_mask
from nas_llm.space._scores import FloatArray, UnitScores
from nas_llm.space._space import SearchSpace
from nas_llm.space._weighted_choice import weighted_choice
from nas_llm.space.objectives import (
    OBJECTIVES,
    CostObjective,
    Objective,
    cost_names,
    is_quality,
    objective,
    plain_cost,
    quality_names,
    register_objective,
    the_quality,
)

__all__ = [
    "COST_NAMES",
    "GENOME_FILE",
    "OBJECTIVES",
    "Architecture",
    "BoolArray",
    "Cost",
    "CostConstraints",
    "CostModel",
    "CostObjective",
    "Evaluation",
    "FeasibleTotals",
    "FloatArray",
    "Genome",
    "IntArray",
    "LatencyTable",
    "Marginals",
    "Objective",
    "SearchSpace",
    "UnitScores",
    "check_feasible",
    "cost_names",
    "is_quality",
    "objective",
    "plain_cost",
    "quality_names",
    "register_objective",
    "resize_genome",
    "resize_mask",
    "the_quality",
    "weighted_choice",
]
