"""Measuring models: perplexity under the literature's protocol, tasks, sizes, MACs, speed, latency and memory."""

from nas_llm.evaluation._generation import Generation, check_workload
from nas_llm.evaluation._latency_table import (
    latency_table,
    measure_latency_table,
    read_latency_table,
    table_text,
)
from nas_llm.evaluation._lm_eval import TaskSuite
from nas_llm.evaluation._load import load
from nas_llm.evaluation._measured import count_block_params, count_macs_per_token, load_any
from nas_llm.evaluation._model_row import ModelRow
from nas_llm.evaluation._peak_memory import cuda_memory, process_memory, saved_memory
from nas_llm.evaluation._perplexity import model_perplexity, window_losses
from nas_llm.evaluation._reload import check_reload
from nas_llm.evaluation._scores import (
    HeldOutGap,
    MemoryScore,
    PredictionScore,
    SpeedScore,
    TaskScore,
    TextScore,
    Workload,
)
from nas_llm.evaluation._speed import Times, alternating_times, speed_score
from nas_llm.evaluation._timed_pass import TimedPass, device_name, interleaved_seconds
from nas_llm.evaluation._workload_tables import workload_tables
from nas_llm.evaluation.tasks import COMMONSENSE7_METRICS

__all__ = [
    "COMMONSENSE7_METRICS",
    "Generation",
    "HeldOutGap",
    "MemoryScore",
    "ModelRow",
    "PredictionScore",
    "SpeedScore",
    "TaskScore",
    "TaskSuite",
    "TextScore",
    "TimedPass",
    "Times",
    "Workload",
    "alternating_times",
    "check_reload",
    "check_workload",
    "count_block_params",
    "count_macs_per_token",
    "cuda_memory",
    "device_name",
    "interleaved_seconds",
    "latency_table",
    "load",
    "load_any",
    "measure_latency_table",
    "model_perplexity",
    "process_memory",
    "read_latency_table",
    "saved_memory",
    "speed_score",
    "table_text",
    "window_losses",
    "workload_tables",
]
