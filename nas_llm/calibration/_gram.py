"""Gram matrices X X^T of the inputs of a block's projections, streamed through the model one block at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from nas_llm.data import WindowSet
from nas_llm.models import DenseModel, fast_float32, steady_activations

# Windows that run through a block together: enough to keep the matrix units busy, few enough to stay small.
_BATCH_TOKENS = 4096
Watch = TypeVar("Watch")


@dataclass(frozen=True, eq=False)
class Gram:
    """Second moments of one projection's input.

    Attributes:
        matrix: ``n x n`` float32, X X^T summed over tokens.
        total: ``n`` float32, sum of X over tokens (for bias refits).
        tokens: Tokens summed over.
    """

    matrix: Tensor
    total: Tensor
    tokens: int

    def to(self, device: torch.device) -> Gram:
        """The same moments on another device."""
        return Gram(self.matrix.to(device), self.total.to(device), self.tokens)

    def merged(self, other: Gram) -> Gram:
        """The moments of both texts."""
        return Gram(self.matrix + other.matrix, self.total + other.total, self.tokens + other.tokens)


@dataclass(frozen=True, eq=False)
class BlockGrams:
    """The four inputs of one block's projections.

    Attributes:
        attn_in: Input of q, k and v, ``D x D``.
        o_in: Input of the attention output projection, ``H d x H d``.
        mlp_in: Input of the FFN's first projections, ``D x D``.
        fc2_in: Input of the FFN's output projection, ``P x P``.
    """

    attn_in: Gram
    o_in: Gram
    mlp_in: Gram
    fc2_in: Gram


def stream_grams(
    dense: DenseModel,
    windows: WindowSet,
    *,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Iterator[tuple[int, BlockGrams]]:
    """Yield every block's Gram matrices in one pass over the calibration windows.

    Accumulates in float32. Memory beside the model: the hidden states of all windows (tokens x D x 4 bytes), one
    block's activations for 4,096 tokens, and one block's Grams (2 D^2 + (H d)^2 + P^2 floats).

    Args:
        dense: The model; runs in float32.
        windows: Calibration windows.
        device: Where to compute.
        on_layer: Called with a block's index when its Grams are complete.
    """

    def watch(block: nn.Module) -> _Sums:
        return _Sums(block, dense)

    for layer, sums in stream_blocks(dense, windows, watch, device=device):
        grams = sums.finish(windows.num_tokens)
        on_layer(layer)
        yield layer, grams


def stream_blocks(
    dense: DenseModel, windows: WindowSet, watch: Callable[[nn.Module], Watch], *, device: torch.device
) -> Iterator[tuple[int, Watch]]:
    """Run the model over windows one block at a time.

    Args:
        dense: The model; runs in float32.
        windows: The text.
        watch: Called with a copy of each block before the windows run through it.
        device: Where to compute.

    Yields:
        The index of a block and what ``watch`` returned for it, when all windows went through.
    """
    adapter = dense.adapter
    outer = copy.deepcopy(adapter.outer(dense.model)).to(device, torch.float32)
    ids = torch.from_numpy(windows.tokens.copy())
    step = max(1, _BATCH_TOKENS // ids.shape[1])
    with torch.inference_mode(), fast_float32(device):
        batches = [adapter.embed(outer, batch.to(device)) for batch in ids.split(step)]
        hidden, context = [batch[0] for batch in batches], batches[0][1]
        for layer in range(dense.architecture.num_layers):
            block = steady_activations(dense.block(layer, device, torch.float32))
            watched = watch(block)
            own = adapter.layer_context(dense.model.config, context, layer)
            for index, states in enumerate(hidden):
                hidden[index] = block(states, **own)
            yield layer, watched


class _Sums:
    """Hooks on one block that add up second moments while it runs."""

    def __init__(self, block: nn.Module, dense: DenseModel) -> None:
        names = dense.adapter.names
        self._sums: dict[str, tuple[Tensor, Tensor]] = {}
        watched = {"attn_in": names.q, "o_in": names.o, "mlp_in": names.fc1[0], "fc2_in": names.fc2}
        self._hooks = [
            block.get_submodule(module).register_forward_pre_hook(self._adder(name)) for name, module in watched.items()
        ]

    def _adder(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            inputs = args[0].reshape(-1, args[0].shape[-1]).float()
            if name not in self._sums:
                width = inputs.shape[1]
                self._sums[name] = (inputs.new_zeros(width, width), inputs.new_zeros(width))
            matrix, total = self._sums[name]
            matrix.addmm_(inputs.T, inputs)
            total.add_(inputs.sum(0))

        return add

    def finish(self, tokens: int) -> BlockGrams:
        for hook in self._hooks:
            hook.remove()
        return BlockGrams(**{name: Gram(matrix, total, tokens) for name, (matrix, total) in self._sums.items()})


def damped(matrix: Tensor, damping: float) -> Tensor:
    """``matrix`` in float64 with ``damping`` times its mean diagonal added to the diagonal."""
    result = matrix.double().clone()
    diagonal = result.diagonal()
    # An input that never fired leaves nothing to scale by.
    diagonal += damping * float(diagonal.mean().clamp_min(1e-12))
    return result
