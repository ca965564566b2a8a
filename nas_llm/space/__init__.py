"""The search space: genomes, their bounds, their exact costs. Nothing here imports torch."""

from nas_llm.space._architecture import Architecture
from nas_llm.space._attention import AttentionLayout, BoolArray, HeadAxis, IntArray
from nas_llm.space._constraints import CostConstraints
from nas_llm.space._cost import CACHE_BYTES_PER_VALUE, COST_NAMES, Cost, CostModel
from nas_llm.space._evaluation import Evaluation
from nas_llm.space._feasible import FeasibleTotals, check_feasible
from nas_llm.space._further_cost import GenomeCost, SizeCost
from nas_llm.space._genome import GENOME_FILE, Counts, Genome
from nas_llm.space._latency import LatencyTable
from nas_llm.space._marginals import Marginals
from nas_llm.space._resize import exchange_heads, resize_attention, resize_genome, resize_mask, weighted_choice
from nas_llm.space._scores import FloatArray, UnitScores
from nas_llm.space._space import SearchSpace, attention_modes
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
    workload_objective,
)

__all__ = [
    "CACHE_BYTES_PER_VALUE",
    "COST_NAMES",
    "GENOME_FILE",
    "OBJECTIVES",
    "Architecture",
    "AttentionLayout",
    "BoolArray",
    "Cost",
    "CostConstraints",
    "CostModel",
    "CostObjective",
    "Counts",
    "Evaluation",
    "FeasibleTotals",
    "FloatArray",
    "Genome",
    "GenomeCost",
    "HeadAxis",
    "IntArray",
    "LatencyTable",
    "Marginals",
    "Objective",
    "SearchSpace",
    "SizeCost",
    "UnitScores",
    "attention_modes",
    "check_feasible",
    "cost_names",
    "exchange_heads",
    "is_quality",
    "objective",
    "plain_cost",
    "quality_names",
    "register_objective",
    "resize_attention",
    "resize_genome",
    "resize_mask",
    "the_quality",
    "weighted_choice",
    "workload_objective",
]
