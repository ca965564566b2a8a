"""Perplexities of a subnet in the arithmetic of its search."""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

from nas_llm.evaluation import model_perplexity
from nas_llm.models import on_device
from nas_llm.session._prepared import Prepared


class SubnetMeasure:
    """Perplexities of one subnet, once for each type of weights.

    Args:
        prepared: The problem that it was found in.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._known: dict[torch.dtype, tuple[float, float]] = {}

    def __call__(self, model: PreTrainedModel) -> tuple[float, float]:
        """(fitness, held-out) perplexity."""
        weights = model.dtype
        if weights not in self._known:
            prepared = self._prepared
            # On a copy: what is exported keeps its own type and place.
            same = model.dtype == prepared.dtype and model.device.type == prepared.device.type
            measured = model if same else copy.deepcopy(model)
            on_device(measured, prepared.device, prepared.dtype)
            splits = prepared.splits
            self._known[weights] = (
                model_perplexity(measured, splits.fitness),
                model_perplexity(measured, splits.held_out),
            )
        return self._known[weights]
