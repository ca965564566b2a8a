"""Measuring models: perplexity under the literature's protocol, tasks, sizes, MACs, speed and memory."""

from nas_llm.evaluation._generation import check_workload
from nas_llm.evaluation._lm_eval import TaskSuite
from nas_llm.evaluation._load import load
from nas_llm.evaluation._measured import count_block_params, count_macs_per_token, load_any
from nas_llm.evaluation._peak_memory import cuda_memory, process_memory, saved_memory
from nas_llm.evaluation._perplexity import model_perplexity
from nas_llm.evaluation._scores import HeldOutGap, MemoryScore, SpeedScore, TaskScore, TextScore, Workload
from nas_llm.evaluation._speed import Times, alternating_times, speed_score
from nas_llm.evaluation._task_groups import COMMONSENSE7_METRICS

__all__ = [
    "COMMONSENSE7_METRICS",
    "HeldOutGap",
    "MemoryScore",
    "SpeedScore",
    "TaskScore",
    "TaskSuite",
    "TextScore",
    "Times",
    "Workload",
    "alternating_times",
    "check_workload",
    "count_block_params",
    "count_macs_per_token",
    "cuda_memory",
    "load",
    "load_any",
    "model_perplexity",
    "process_memory",
    "saved_memory",
    "speed_score",
]
