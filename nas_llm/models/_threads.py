"""Fewer threads where their number would change the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one CPU thread for what this thread does, and as many as before after.

    LAPACK cuts factorisations and triangular solves up by the number of threads, libraries products of a matrix with a
    vector and sums of long vectors: each number of threads rounds otherwise. So do exponential functions of many
    numbers, which are computed several at a time, but not those left over at the end of a thread's share. Products of
    matrices do not.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _InOneThread(nn.Module):
    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self._function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with one_thread():
            return self._function(*args, **kwargs)


def steady_activations(block: nn.Module) -> nn.Module:
    """Let the activation functions of a decoder block run in one thread, so that no bit depends on their number.

    Args:
        block: The block, changed in place; modules without children, parameters and buffers are taken for activations.
    """
    found = [
        name
        for name, module in block.named_modules()
        if name and not [*module.children(), *module.parameters(), *module.buffers()]
    ]
    for name in found:
        block.set_submodule(name, _InOneThread(block.get_submodule(name)))
    return block
