"""Measuring models: perplexity under the literature's protocol, sizes, MACs, latency."""

from nas_llm.evaluation._latency_table import (
    latency_table,
    measure_latency_table,
    read_latency_table,
    table_text,
)
from nas_llm.evaluation._load import load
from nas_llm.evaluation._measured import count_block_params, count_macs_per_token, load_any
from nas_llm.evaluation._perplexity import model_perplexity
from nas_llm.evaluation._timed_pass import TimedPass, device_name, interleaved_seconds

__all__ = [
    "TimedPass",
    "count_block_params",
    "count_macs_per_token",
    "device_name",
    "interleaved_seconds",
    "latency_table",
    "load",
    "load_any",
    "measure_latency_table",
    "model_perplexity",
    "read_latency_table",
    "table_text",
]
