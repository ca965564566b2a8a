"""Workloads: what a subnet takes for a prompt and an answer, predicted in seconds and bytes. No tensor library here."""

from nas_llm.workloads._costs import WorkloadMemory, WorkloadSeconds, workload_costs
from nas_llm.workloads._memory import MemoryParts, memory_parts
from nas_llm.workloads._predictor import WorkloadPredictor
from nas_llm.workloads._tables import WorkloadTables
from nas_llm.workloads._workload import Workload

__all__ = [
    "MemoryParts",
    "Workload",
    "WorkloadMemory",
    "WorkloadPredictor",
    "WorkloadSeconds",
    "WorkloadTables",
    "memory_parts",
    "workload_costs",
]
