"""The engine of a search: pymoo problem and algorithms, the loop, history, cache and checkpoints."""

from nas_llm.search.engine._algorithm import algorithm_names, build_algorithm, check_algorithm
from nas_llm.search.engine._cache import CachedEvaluator, EvaluationCache
from nas_llm.search.engine._checkpoint import CheckpointStore, SearchState
from nas_llm.search.engine._duplicates import DigestDuplicates
from nas_llm.search.engine._evaluator import Evaluator, OnResult, RacingEvaluator
from nas_llm.search.engine._history import History
from nas_llm.search.engine._hypervolume import WORST_COST, WORST_QUALITY, normalised_hypervolume, search_scale
from nas_llm.search.engine._learning import learn
from nas_llm.search.engine._ledger import Ledger
from nas_llm.search.engine._loop import SearchResult
from nas_llm.search.engine._problem import SubnetProblem
from nas_llm.search.engine._pymoo import PymooCrossover, PymooMutation, PymooRepair, PymooSampling, genome_column
from nas_llm.search.engine._runner import Search

__all__ = [
    "WORST_COST",
    "WORST_QUALITY",
    "CachedEvaluator",
    "CheckpointStore",
    "DigestDuplicates",
    "EvaluationCache",
    "Evaluator",
    "History",
    "Ledger",
    "OnResult",
    "PymooCrossover",
    "PymooMutation",
    "PymooRepair",
    "PymooSampling",
    "RacingEvaluator",
    "Search",
    "SearchResult",
    "SearchState",
    "SubnetProblem",
    "algorithm_names",
    "build_algorithm",
    "check_algorithm",
    "genome_column",
    "learn",
    "normalised_hypervolume",
    "search_scale",
]
