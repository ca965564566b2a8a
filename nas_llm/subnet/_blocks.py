"""Sliced blocks on the device, kept while they are useful."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

import torch
from torch import Tensor

from nas_llm.models import DenseModel
from nas_llm.models.families import Block, placed
from nas_llm.space import BoolArray, Genome


class Reconstructor(Protocol):
    """Refits the weights of a sliced block before it is evaluated."""

    @property
    def identity(self) -> str:
        """What results depend on, for cache keys."""

    def refit(
        self, layer: int, sliced: dict[str, Tensor], attn_mask: BoolArray, mlp_mask: BoolArray
    ) -> dict[str, Tensor]:
        """The sliced block's state dict with refitted weights."""


class BlockCache:
    """Least-recently-used cache of sliced (and refitted) blocks under a memory budget; threads may share it.

    Args:
        dense: The model to slice.
        device: Where blocks run.
        dtype: Their arithmetic.
        reconstructor: Refits sliced weights; None for inherited weights.
        budget_bytes: Memory for blocks; the block in use may exceed it.
        resident: Keep the dense weights on the device in ``dtype``, so that slicing copies within the device; takes
            the dense blocks' bytes unless they lie there already.
    """

    def __init__(
        self,
        dense: DenseModel,
        *,
        device: torch.device,
        dtype: torch.dtype,
        reconstructor: Reconstructor | None,
        budget_bytes: int,
        resident: bool = False,
    ) -> None:
        self._dense = dense
        self._device = device
        self._dtype = dtype
        self._reconstructor = reconstructor
        self._budget = budget_bytes
        self._states: list[dict[str, Tensor]] = []
        if resident and reconstructor is None:
            layers = range(dense.architecture.num_layers)
            self._states = [self._placed(dense.block_state(layer)) for layer in layers]
        self._blocks: OrderedDict[tuple[int, bytes], tuple[Block, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0
        self.peak_bytes = 0

    def get(self, genome: Genome, layer: int) -> Block:
        """The block that a genome has at a layer."""
        key = (layer, genome.layer_key(layer))
        with self._lock:
            if key in self._blocks:
                self._blocks.move_to_end(key)
                return self._blocks[key][0]
        # Outside of the lock: two threads may make the same block, which costs time and nothing else.
        block, size = self._make(layer, genome.attn_mask[layer], genome.mlp_mask[layer])
        with self._lock:
            if key in self._blocks:
                return self._blocks[key][0]
            self._blocks[key] = (block, size)
            self.bytes += size
            while self.bytes > self._budget and len(self._blocks) > 1:
                _, (_, freed) = self._blocks.popitem(last=False)
                self.bytes -= freed
            self.peak_bytes = max(self.peak_bytes, self.bytes)
        return block

    def _make(self, layer: int, attn_mask: BoolArray, mlp_mask: BoolArray) -> tuple[Block, int]:
        adapter, architecture = self._dense.adapter, self._dense.architecture
        source = self._states[layer] if self._states else self._dense.block_state(layer)
        state = adapter.slice_block(architecture, source, attn_mask, mlp_mask)
        if self._reconstructor is not None:
            state = self._reconstructor.refit(layer, state, attn_mask, mlp_mask)
        state = self._placed(state)
        return adapter.block(self._dense.model.config, state, layer), sum(weight.nbytes for weight in state.values())

    def _placed(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return placed(state, self._device, self._dtype)
