"""An objective: the energy of one token, from what is multiplied and what is moved."""

from __future__ import annotations

from nas_llm.space import Architecture, CostModel, CostObjective, Genome

# Put the numbers of your device here.
JOULES_PER_MAC = 1e-12
JOULES_PER_BYTE = 60e-12
BYTES_PER_WEIGHT = 2
CONTEXT = 1024


class Energy(CostObjective):
    """Decoding of one token for one user: every weight and the whole KV cache are read once."""

    name = "energy"
    title = "energy per token"
    unit = "uJ"
    additive = True

    def __init__(self, architecture: Architecture) -> None:
        super().__init__(architecture)
        self.costs = CostModel(architecture, sequence_length=CONTEXT)

    def __call__(self, genome: Genome) -> float:
        cost = self.costs(genome)
        moved = BYTES_PER_WEIGHT * cost.params + CONTEXT * cost.kv_cache_bytes
        return 1e6 * (JOULES_PER_MAC * cost.macs_per_token + JOULES_PER_BYTE * moved)
