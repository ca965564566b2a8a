"""What of the machine, or of a cluster, a search may use; results do not depend on it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from nas_llm.errors import ConfigError
from nas_llm.settings import ResourcesDefaults


def check_memory(memory_gb: float | None) -> None:
    """Refuse a memory limit that is not a number of GB above zero.

    Raises:
        ConfigError: If it is not above zero.
    """
    if memory_gb is not None and not 0 < memory_gb < math.inf:
        raise ConfigError(f"--memory must be a number of GB above 0, got {memory_gb:g}")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Limits and helpers of one call.

    Attributes:
        workers: Ray actors that evaluate candidates; 0 = this process.
        ray_address: A running Ray cluster; None starts Ray on this machine.
        threads: CPU threads of this process, or of each worker; None = all cores, shared among the workers.
        memory_gb: Memory for sliced blocks and hidden states of one evaluator, GB (10^9 bytes); None = what is of use,
            at most half of what is free, four fifths on a GPU.

    Raises:
        ConfigError: If a number is out of range.
    """

    workers: int = ResourcesDefaults.workers
    ray_address: str | None = None
    threads: int | None = None
    memory_gb: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(f"--workers must be 0 or more, got {self.workers}")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads must be at least 1, got {self.threads}")
        check_memory(self.memory_gb)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give torch so many threads in this process while the block runs; workers have their own number."""
        if self.threads is None or self.num_workers:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    @property
    def memory_bytes(self) -> int | None:
        """The limit in bytes."""
        return None if self.memory_gb is None else int(self.memory_gb * 1e9)

    @property
    def num_workers(self) -> int:
        """Ray actors: a cluster without a number gets one."""
        return self.workers or (1 if self.ray_address else 0)

    @property
    def worker_threads(self) -> int:
        """CPU threads of one worker."""
        if self.threads is not None or not self.num_workers:
            return self.threads or os.cpu_count() or 1
        return 1 if self.ray_address else max(1, (os.cpu_count() or 1) // self.num_workers)
