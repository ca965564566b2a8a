"""Measuring models: perplexity under the literature's protocol, sizes and MACs."""

from nas_llm.evaluation._load import load
from nas_llm.evaluation._measured import count_block_params, count_macs_per_token, load_any
from nas_llm.evaluation._perplexity import model_perplexity

__all__ = ["count_block_params", "count_macs_per_token", "load", "load_any", "model_perplexity"]
