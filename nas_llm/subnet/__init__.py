"""Subnets: real smaller models, and the evaluator that prices a population of them."""

from nas_llm.subnet._blocks import BlockCache, Reconstructor
from nas_llm.subnet._build import BlockEdit, build_subnet
from nas_llm.subnet._evaluator import PopulationEvaluator
from nas_llm.subnet._masking import masked_copy

__all__ = ["BlockCache", "BlockEdit", "PopulationEvaluator", "Reconstructor", "build_subnet", "masked_copy"]
