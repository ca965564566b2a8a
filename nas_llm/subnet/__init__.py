"""Subnets: real smaller models, and the evaluator that evaluates a population of them."""

from nas_llm.subnet._allocator import keep_freed_memory
from nas_llm.subnet._blocks import BlockCache, Reconstructor
from nas_llm.subnet._build import BlockEdit, build_subnet
from nas_llm.subnet._check_family import check_family
from nas_llm.subnet._evaluator import OnResult, PopulationEvaluator, WalkStatistics
from nas_llm.subnet._masking import masked_copy
from nas_llm.subnet._memory import least_memory
from nas_llm.subnet._racing import Racing
from nas_llm.subnet._taylor import TaylorMarginals

__all__ = [
    "BlockCache",
    "BlockEdit",
    "OnResult",
    "PopulationEvaluator",
    "Racing",
    "Reconstructor",
    "TaylorMarginals",
    "WalkStatistics",
    "build_subnet",
    "check_family",
    "keep_freed_memory",
    "least_memory",
    "masked_copy",
]
