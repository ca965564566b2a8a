"""How an evaluator shares out the memory that it is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel, available_bytes
from nas_llm.space import Architecture
from nas_llm.subnet._lanes import lanes_for

# Windows that run through a block together: beyond this a product gains nothing and activations leave the caches.
_MOST_TOKENS = {"cpu": 4096, "cuda": 65536}
# Main memory that is of use: kept states save few blocks, and fresh memory costs time; but refits are dear, and
# children have most of their blocks from their parents.
_STATES = 500_000_000
_DENSE_MODELS = {False: 3, True: 15}


@dataclass(frozen=True, kw_only=True)
class MemoryPlan:
    """Shares of a memory budget, in bytes.

    Attributes:
        total: The budget.
        resident: Whether the dense blocks stay on the device; otherwise their weights are streamed, each block once for
            a whole population.
        blocks: Sliced blocks that are kept.
        states: Hidden states that are kept.
        batch_tokens: Tokens that run through a block together.
        lanes: Candidates at a time, each with a batch of its own.
    """

    total: int
    resident: bool
    blocks: int
    states: int
    batch_tokens: int
    lanes: int


def available_memory(device: torch.device, blocks: int, *, refitted: bool) -> int:
    """Half of the free main memory, but no more than is of use, or four fifths of a GPU's free memory, in bytes.

    Args:
        device: Where candidates run.
        blocks: Bytes of the dense blocks.
        refitted: Whether sliced blocks are refitted.
    """
    if device.type == "cuda":
        free: int = torch.cuda.mem_get_info(device)[0]
        return free * 4 // 5
    return min(available_bytes() // 2, _DENSE_MODELS[refitted] * blocks + _STATES)


def plan_memory(
    dense: DenseModel, *, total: int | None, window: int, device: torch.device, dtype: torch.dtype, refitted: bool
) -> MemoryPlan:
    """Share out a budget.

    Half of what is left beside one batch's activations and, where they fit, the dense blocks goes to hidden states,
    the other half to sliced blocks, but of blocks that are not refitted no more than one dense model's are kept.

    Args:
        dense: The model.
        total: Bytes; None takes :func:`available_memory`.
        window: Tokens of a window, the least that can run at once.
        device: Where candidates run.
        dtype: Their arithmetic.
        refitted: Whether sliced blocks are refitted, and so dear to make again.

    Raises:
        ConfigError: If one window cannot pass through one dense block under the budget.
    """
    architecture, size = dense.architecture, dtype.itemsize
    block = _block_bytes(architecture, size)
    total = available_memory(device, architecture.num_layers * block, refitted=refitted) if total is None else total
    token = _token_bytes(architecture, size)
    least = least_memory(architecture, window=window, dtype=dtype)
    if total < least:
        raise ConfigError(
            f"a memory budget of {total / 1e9:.3g} GB is too small: one window of {window} tokens through one block "
            f"takes {least / 1e9:.3g} GB; raise it or lower data.window"
        )
    blocks = architecture.num_layers * block
    # A lazily read model is on disk; on the CPU the dense weights in their own dtype lie in memory anyway.
    shared = dense.files is None and device.type == "cpu" and dense.model.dtype == dtype
    resident = shared or 2 * blocks <= total
    lanes = max(1, min(lanes_for(device), total // 4 // (window * token)))
    activations = min(max(lanes * window * token, total // 4), lanes * _MOST_TOKENS.get(device.type, 4096) * token)
    left = max(total - activations - (blocks if resident and not shared else 0), 0)
    # Slicing anew costs about as much as keeping: what is kept takes fresh memory, which the system has to clear.
    kept = left // 2 if refitted else min(left // 2, blocks)
    return MemoryPlan(
        total=total,
        resident=resident,
        blocks=kept if resident else 2 * block,
        states=left - kept if resident else max(left - 2 * block, 0),
        batch_tokens=max(activations // (lanes * token), window),
        lanes=lanes,
    )


def least_memory(architecture: Architecture, *, window: int, dtype: torch.dtype) -> int:
    """Bytes beside the dense weights that one window through one dense block takes: the least an evaluator can do with.

    Args:
        architecture: The dense model.
        window: Tokens of a window.
        dtype: Arithmetic of the candidates.
    """
    size = dtype.itemsize
    states = 2 * window * architecture.hidden_size * size
    return 2 * _block_bytes(architecture, size) + window * _token_bytes(architecture, size) + states


def _block_bytes(architecture: Architecture, size: int) -> int:
    a = architecture
    attention = a.hidden_size * a.head_dim * (2 * a.num_heads + 2 * a.num_kv_heads)
    return (attention + (2 + a.gated_mlp) * a.hidden_size * a.intermediate_size) * size


def _token_bytes(architecture: Architecture, size: int) -> int:
    """Activations of one token inside one block, the larger of its sublayers, float32 norms included."""
    a = architecture
    attention = a.head_dim * (3 * a.num_heads + 4 * a.num_kv_heads) * size
    ffn = (1 + 2 * a.gated_mlp) * a.intermediate_size * size
    return max(attention, ffn) + 3 * a.hidden_size * (size + 4)
