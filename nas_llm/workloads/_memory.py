"""Memory of a subnet under a workload: weights and KV cache exactly, the rest by a rule of thumb."""

from __future__ import annotations

from dataclasses import dataclass

from nas_llm.space import CACHE_BYTES_PER_VALUE
from nas_llm.workloads._workload import Workload

# What a prefill holds beside weights and cache: of each token the gate, up and down inputs of one FFN and a few rows of
# the residual stream, which together are about 5.5 rows of the FFN.
_VALUES_PER_CHANNEL = 5.5
# What the libraries take themselves once a model runs.
_RUNTIME_BYTES = 32_000_000


@dataclass(frozen=True, kw_only=True)
class MemoryParts:
    """Bytes of a subnet under a workload.

    Attributes:
        weights: All parameters; exact.
        kv_cache: Keys and values of all sequences at the end; exact.
        activations: What else there is at the peak, estimated from the dense model's FFN width, so that it is the same
            for all subnets.
    """

    weights: int
    kv_cache: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv_cache + self.activations


def memory_parts(workload: Workload, *, params: int, kv_cache_bytes: int, intermediate_size: int) -> MemoryParts:
    """Predict what a subnet takes.

    Args:
        workload: What it does.
        params: Its parameters.
        kv_cache_bytes: Its KV-cache bytes per token, as :class:`nas_llm.space.Cost` states them.
        intermediate_size: FFN channels of a layer of the dense model.
    """
    size = workload.value_bytes
    values = kv_cache_bytes // CACHE_BYTES_PER_VALUE
    prompts = workload.batch * workload.prompt
    return MemoryParts(
        weights=params * size,
        kv_cache=values * size * workload.batch * workload.tokens,
        activations=_RUNTIME_BYTES + int(_VALUES_PER_CHANNEL * intermediate_size) * size * prompts,
    )
