"""A KV cache that writes in place; imports transformers, so only the sampler imports it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

_FIRST_CAPACITY = 64


class GrowingLayer(DynamicLayer):
    """Keys and values of one block, in buffers that double when full.

    The stock layer copies all it holds for every token; with many rows on a CPU that is a third of the time.
    """

    _buffers: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``(B, K, n, d)`` keys and values and return all of them, as views."""
        held = self.get_seq_length()
        self.is_initialized = True
        length = held + key_states.shape[2]
        if self._buffers is None or length > self._buffers[0].shape[2]:
            capacity = max(2 * held, length, _FIRST_CAPACITY)
            old = self._buffers
            self._buffers = _allocate(key_states, capacity), _allocate(value_states, capacity)
            if old is not None:
                for buffer, content in zip(self._buffers, old, strict=True):
                    buffer[:, :, :held] = content[:, :, :held]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, held:length] = states
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep only some rows of the batch."""
        if self._buffers is not None:
            length = self.get_seq_length()
            self._buffers = self._buffers[0][indices], self._buffers[1][indices]
            self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def growing_cache(config: PretrainedConfig) -> DynamicCache:
    """An empty cache for a model; layers of a special kind (sliding windows, ...) stay what transformers makes them."""
    cache = DynamicCache(config=config)
    for index, layer in enumerate(cache.layers):
        if type(layer) is DynamicLayer:
            cache.layers[index] = GrowingLayer()  # type: ignore[no-untyped-call]
    return cache


def _allocate(like: torch.Tensor, capacity: int) -> torch.Tensor:
    return like.new_empty((*like.shape[:2], capacity, like.shape[3]))
