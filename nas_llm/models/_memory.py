"""What memory holds: how much is left, and weights that no file can change any more."""

from __future__ import annotations

import psutil
from torch import nn


def available_bytes() -> int:
    """Memory that new allocations can have without swapping."""
    return int(psutil.virtual_memory().available)


def hold_in_memory(model: nn.Module) -> bool:
    """Copy weights out of the files that they are mapped from: a file that is overwritten changes them no more.

    Args:
        model: A model as transformers loads it; its weights may be views of its files.

    Returns:
        False where memory is too short for that; then nothing was done.
    """
    weights = [*model.parameters(), *model.buffers()]
    if sum(weight.nbytes for weight in weights) > available_bytes():
        return False
    for weight in weights:
        weight.data = weight.data.clone()
    return True
