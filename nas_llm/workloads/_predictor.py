"""Both predictions of one workload, for subnets whose cost is known."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.space import Cost, Genome, objective
from nas_llm.workloads._memory import MemoryParts, memory_parts
from nas_llm.workloads._tables import WorkloadTables
from nas_llm.workloads._workload import Workload


@dataclass(frozen=True)
class WorkloadPredictor:
    """Predicts what subnets of one dense model take for a workload.

    Args:
        workload: What they do.
        tables: Measured times of the model's sublayers.
    """

    workload: Workload
    tables: WorkloadTables

    @property
    def names(self) -> tuple[str, str]:
        """The costs: ``WORKLOAD.memory`` and ``WORKLOAD.seconds``."""
        return f"{self.workload.name}.memory", f"{self.workload.name}.seconds"

    def seconds(self, genome: Genome) -> float:
        """Predicted seconds of a subnet."""
        return self.tables(genome)

    def memory(self, genome: Genome, cost: Cost) -> MemoryParts:
        """Predicted bytes of a subnet."""
        return memory_parts(
            self.workload,
            params=cost.params,
            kv_cache_bytes=cost.kv_cache_bytes,
            intermediate_size=genome.mlp_mask.shape[1],
        )

    def shown(self, name: str, genome: Genome, cost: Cost) -> str:
        """One of the costs, for a person.

        Args:
            name: One of :attr:`names`.
            genome: The subnet.
            cost: Its cost.
        """
        value = self.seconds(genome) if name == self.names[1] else float(self.memory(genome, cost).total)
        return objective(name).show(value)

    def __str__(self) -> str:
        return f"{self.workload}, predicted for {self.tables.device}"
