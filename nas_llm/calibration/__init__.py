"""Calibration: Gram matrices of the dense model's activations, and scores of its units."""

from nas_llm.calibration._calibrate import SCORERS, Calibration, Scorer, calibrate
from nas_llm.calibration._gram import BlockGrams, Gram, damped, stream_grams
from nas_llm.calibration._heads import HEAD_SCORERS, head_importance, head_obs, score_costs, score_ranks
from nas_llm.calibration._importance import importance
from nas_llm.calibration._kept_grams import KeptGrams, keep_grams
from nas_llm.calibration._memory import calibration_bytes, gram_products, kept_gram_bytes
from nas_llm.calibration._obs import elimination_ranks, obs
from nas_llm.calibration._score_grams import ScoreGrams, stream_score_grams
from nas_llm.calibration._store import GramStore
from nas_llm.calibration._value_rotation import rotate_values, rotated_gram, value_rotation

__all__ = [
    "HEAD_SCORERS",
    "SCORERS",
    "BlockGrams",
    "Calibration",
    "Gram",
    "GramStore",
    "KeptGrams",
    "ScoreGrams",
    "Scorer",
    "calibrate",
    "calibration_bytes",
    "damped",
    "elimination_ranks",
    "gram_products",
    "head_importance",
    "head_obs",
    "importance",
    "keep_grams",
    "kept_gram_bytes",
    "obs",
    "rotate_values",
    "rotated_gram",
    "score_costs",
    "score_ranks",
    "stream_grams",
    "stream_score_grams",
    "value_rotation",
]
