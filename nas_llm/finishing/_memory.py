"""What a sequential finish may take of the memory, and what that is enough for."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import suppress
from dataclasses import dataclass

import psutil
import torch

from nas_llm.finishing._inputs import FinishInputs
from nas_llm.models import DenseModel, available_bytes
from nas_llm.settings import SequentialDefaults

# Tokens that run through a sublayer together.
BATCH_TOKENS = SequentialDefaults.batch_tokens
# Beside two models in float32: the interpreter with its libraries, and what does not grow with the model.
_BESIDE = 10**9
_CUDA_LIBRARIES = 3 * 10**9


@dataclass(frozen=True, kw_only=True)
class FinishMemory:
    """Memory of a sequential finish, in bytes.

    Attributes:
        room: What it may take beside what the process has already.
        hidden: One point's hidden states; they may lie in files instead.
        results: One point's refitted weights, at most.
        moments: One point's sums over tokens for one projection, at most.
        shared: Activations of one batch, and what a solve takes.
        device_room: As ``room``, of the GPU's memory; None on a CPU.
    """

    room: int
    hidden: int
    results: int
    moments: int
    shared: int
    device_room: int | None

    @property
    def points(self) -> int:
        """Points to finish together: as many as there is room for, with their hidden states in files if need be."""
        fitting = (self.room - self._once) // self._each
        if self.device_room is not None:
            fitting = min(fitting, (self.device_room - self.shared) // self.moments)
        return max(1, fitting)

    def budget(self, points: int) -> int:
        """Room for the hidden states, and inputs kept along the way, of so many points."""
        return max(0, self.room - self._once - points * self._each)

    def device_budget(self, points: int) -> int:
        """Room on the GPU for the hidden states of so many points; 0 on a CPU."""
        return 0 if self.device_room is None else max(0, self.device_room - self.shared - points * self.moments)

    @property
    def lacking(self) -> int:
        """Bytes by which one point alone, its hidden states in files, exceeds the room; 0 if it does not."""
        return max(0, self._once + self._each - self.room)

    @property
    def one_point(self) -> int:
        """What one point takes, hidden states of it and of the dense model included."""
        return 2 * self.hidden + self.results + self.moments + self.shared

    @property
    def _each(self) -> int:
        """What a point takes of the room beside its hidden states; sums over tokens are on the GPU if there is one."""
        return self.results if self.device_room is not None else self.results + self.moments

    @property
    def _once(self) -> int:
        """What is taken of the room however many points there are."""
        return 0 if self.device_room is not None else self.shared


def finish_memory(
    inputs: FinishInputs, *, sets: int, refit_inputs: bool, copies: int = 1, memory_gb: float | None = None
) -> FinishMemory:
    """Memory of the sequential finish of a problem's points.

    Args:
        inputs: The problem, loaded.
        sets: Sums over tokens of each projection: 2 where it chooses between dampings, else 1.
        refit_inputs: Whether all projections are refitted, not the output projections alone.
        copies: How often the results are kept, where several are made to choose from.
        memory_gb: What the whole process may have, GB (10^9 bytes); None = twice the model's size in float32 plus 1 GB,
            with CUDA 4 GB. Either way no more than four fifths of what is free is taken on.
    """
    shape, device = inputs.dense.architecture, inputs.device
    dense = inputs.cost_model.dense
    beside = _BESIDE + (_CUDA_LIBRARIES if device.type == "cuda" else 0)
    limit = 2 * 4 * dense.params + beside if memory_gb is None else int(memory_gb * 1e9)
    heads = shape.num_heads * shape.head_dim
    widest, size = max(shape.intermediate_size, heads), shape.hidden_size
    outputs = shape.num_layers * size * (heads + shape.intermediate_size)
    _touch(inputs.dense)
    return FinishMemory(
        room=min(limit - psutil.Process().memory_info().rss, available_bytes() * 4 // 5),
        hidden=4 * inputs.splits.finish.num_tokens * size,
        results=4 * copies * (dense.block_params if refit_inputs else outputs),
        moments=8 * sets * widest * (widest + size),
        shared=4 * BATCH_TOKENS * (4 * shape.intermediate_size + 8 * size) + 24 * widest**2 + 16 * widest * size,
        device_room=torch.cuda.mem_get_info(device)[0] * 4 // 5 if device.type == "cuda" else None,
    )


def _touch(dense: DenseModel) -> None:
    """Bring all weights into memory: of a file that is mapped, only what was read so far counts as taken."""
    for weight in dense.model.parameters():
        if weight.device.type == "cpu":
            values = weight.detach().flatten()
            values[:: max(1, mmap.PAGESIZE // values.element_size())].sum()


def release_memory() -> None:
    """Give the system back what was freed; glibc keeps much of it otherwise, and what comes next would count twice."""
    if sys.platform == "linux":
        # Other C libraries have no such function and need none.
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
