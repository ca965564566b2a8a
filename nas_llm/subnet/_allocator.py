"""Freed memory stays with the process: activations of one size come and go thousands of times."""

from __future__ import annotations

import ctypes
import platform
from functools import cache

# mallopt's parameters (malloc.h) and what they are set to: threads share one heap, because their own would be cut into
# pieces of 64 MB; blocks up to 32 MB, the most that glibc allows, come from the heap instead of fresh pages; up to 2 GB
# of free heap is not given back to the system.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8
_SETTINGS = {_ARENA_MAX: 1, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: (1 << 31) - 1, _TOP_PAD: 64 << 20}


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep what is freed, for the rest of the process.

    A quarter of a candidate's time on a CPU goes into page faults otherwise (docs/benchmarks.md). The commands and our
    own worker processes call it; it is for good, so in your process it is up to you. Early is best.

    Returns:
        Whether the C library took the settings; others than glibc are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(ctypes.c_int(parameter), ctypes.c_int(value)) == 1 for parameter, value in _SETTINGS.items()])
