"""Hidden states of all calibration windows between two sublayers: on the device, in main memory or in a file."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path

import torch
from torch import Tensor

from nas_llm.cache import cache_dir
from nas_llm.errors import ModelError


class HiddenStates:
    """``windows x T x D`` numbers that are read and overwritten a few windows at a time.

    Args:
        shape: ``(windows, T, D)``.
        dtype: What they are kept in.
        device: Where they are kept in memory; None for the CPU.
        file: Keep them in this file, read and written piece by piece: mapped into memory, the pages would count as this
            process's own. None keeps them in memory.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        dtype: torch.dtype,
        *,
        device: torch.device | None = None,
        file: FileIO | None = None,
    ) -> None:
        self._shape, self._dtype, self._file = shape, dtype, file
        self._values = torch.empty(shape if file is None else (0,), dtype=dtype, device=device)
        if file is not None:
            file.truncate(math.prod(shape) * dtype.itemsize)

    def read(self, windows: slice, device: torch.device, dtype: torch.dtype) -> Tensor:
        """A copy of some windows, ``w x T x D``."""
        if self._file is None:
            return self._values[windows].to(device, dtype, copy=True)
        states = torch.empty((len(range(*windows.indices(self._shape[0]))), *self._shape[1:]), dtype=self._dtype)
        place = _bytes(states)
        self._file.seek(self._offset(windows))
        while len(place):
            count = self._file.readinto(place)
            if not count:
                raise OSError("a file is shorter than what was written there")
            place = place[count:]
        return states.to(device, dtype)

    def write(self, windows: slice, states: Tensor) -> None:
        """Overwrite some windows."""
        if self._file is None:
            self._values[windows] = states.to(self._values.device, self._dtype)
            return
        rest = _bytes(states.to("cpu", self._dtype).contiguous())
        self._file.seek(self._offset(windows))
        while len(rest):
            rest = rest[self._file.write(rest) :]

    def _offset(self, windows: slice) -> int:
        first, _, _ = windows.indices(self._shape[0])
        return first * self._shape[1] * self._shape[2] * self._dtype.itemsize


@contextmanager
def hidden_storage(
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    *,
    count: int,
    device: torch.device,
    device_bytes: int,
    budget_bytes: int,
    folder: Path | None,
) -> Iterator[Callable[[], HiddenStates]]:
    """Make room for several hidden states.

    All of them are kept on the device if they fit there, else in main memory, else in files that end with the process.

    Args:
        shape: ``(windows, T, D)`` of each.
        dtype: What they are kept in.
        count: How many there will be at most.
        device: Where they are used.
        device_bytes: Its memory for all of them; 0 if it is the CPU.
        budget_bytes: Main memory for all of them.
        folder: Where the files go; the cache folder if None.

    Yields:
        What makes one more.

    Raises:
        ModelError: If the disk does not take the files; reading and writing inside raises it, too.
    """
    size = math.prod(shape) * dtype.itemsize * count
    if size <= max(device_bytes, budget_bytes):
        place = device if size <= device_bytes else None
        yield lambda: HiddenStates(shape, dtype, device=place)
        return
    parent = folder or cache_dir()
    try:
        yield from _files(parent, shape, dtype)
    except OSError as error:
        raise ModelError(
            f"hidden states cannot be kept in {parent}: {error.strerror or error}; make room there, name another place "
            f"with NAS_LLM_CACHE, or allow more memory"
        ) from error


def _files(parent: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> Iterator[Callable[[], HiddenStates]]:
    parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as opened:
        # Without a name, a file leaves nothing behind even if the process is killed.
        yield lambda: HiddenStates(
            shape, dtype, file=opened.enter_context(tempfile.TemporaryFile(dir=parent, buffering=0))
        )


def _bytes(values: Tensor) -> memoryview:
    """The bytes of contiguous numbers on the CPU, not copied."""
    return values.view(torch.uint8).numpy().reshape(-1).data
