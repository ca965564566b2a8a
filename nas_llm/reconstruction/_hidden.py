"""Hidden states of all calibration windows between two sublayers, in memory or in a file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from nas_llm.cache import cache_dir


class HiddenStates:
    """``windows x T x D`` numbers that are read and overwritten a few windows at a time.

    Args:
        shape: ``(windows, T, D)``.
        dtype: What they are kept in.
        file: Memory-map this file, which must not exist yet; None keeps them in memory.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, *, file: Path | None = None) -> None:
        if file is None:
            self._values = torch.empty(shape, dtype=dtype)
        else:
            self._values = torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype).view(shape)

    def read(self, windows: slice, device: torch.device, dtype: torch.dtype) -> Tensor:
        """A copy of some windows, ``w x T x D``."""
        return self._values[windows].to(device, dtype, copy=True)

    def write(self, windows: slice, states: Tensor) -> None:
        """Overwrite some windows."""
        self._values[windows] = states.to(self._values.device, self._values.dtype)


@contextmanager
def hidden_storage(
    shape: tuple[int, int, int], dtype: torch.dtype, *, count: int, budget_bytes: int, folder: Path | None
) -> Iterator[Callable[[], HiddenStates]]:
    """Make room for several hidden states: in memory within a budget, else all in files that are gone afterwards.

    Args:
        shape: ``(windows, T, D)`` of each.
        dtype: What they are kept in.
        count: How many there will be at most.
        budget_bytes: Memory for all of them.
        folder: Where the files go; the cache folder if None.

    Yields:
        What makes one more.
    """
    if math.prod(shape) * dtype.itemsize * count <= budget_bytes:
        yield lambda: HiddenStates(shape, dtype)
        return
    parent = folder or cache_dir()
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=".hidden-") as place:
        files = iter(range(count))
        yield lambda: HiddenStates(shape, dtype, file=Path(place) / str(next(files)))
