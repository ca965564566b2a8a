"""The search space: genomes, their bounds, their exact costs. Nothing here imports torch."""

from nas_llm.space._architecture import Architecture
from nas_llm.space._cost import COST_NAMES, Cost, CostModel
from nas_llm.space._genome import BoolArray, Genome, IntArray
from nas_llm.space._latency import LatencyTable
from nas_llm.space._marginals import Marginals
from nas_llm.space._scores import FloatArray, UnitScores
from nas_llm.space._space import SearchSpace

__all__ = [
    "COST_NAMES",
    "Architecture",
    "BoolArray",
    "Cost",
    "CostModel",
    "FloatArray",
    "Genome",
    "IntArray",
    "LatencyTable",
    "Marginals",
    "SearchSpace",
    "UnitScores",
]
