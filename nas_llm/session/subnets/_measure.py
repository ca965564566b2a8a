"""Perplexities of a subnet in the arithmetic of its search."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from nas_llm.data import WindowSet
from nas_llm.evaluation import window_losses
from nas_llm.models import on_device
from nas_llm.session._prepared import Prepared


@dataclass(frozen=True)
class SubnetScores:
    """What a subnet scores.

    Attributes:
        fitness: Perplexity on the fitness windows.
        held_out: Perplexity on the held-out windows.
        texts: Perplexity of every kind of held-out text and off-text.
    """

    fitness: float
    held_out: float
    texts: Mapping[str, float]

    def beside(
        self, *, fitness: float | None, held_out: float | None, texts: Mapping[str, float]
    ) -> dict[str, tuple[float | None, float]]:
        """Every text's name to (dense, subnet), for a card; the arguments are the dense model's, as far as known."""
        return {
            "fitness": (fitness, self.fitness),
            "held_out": (held_out, self.held_out),
            **{kind: (texts.get(kind), value) for kind, value in self.texts.items()},
        }


class SubnetMeasure:
    """Perplexities of one subnet, once for each type of weights.

    Args:
        prepared: The problem that it was found in.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._known: dict[torch.dtype, SubnetScores] = {}

    def __call__(self, model: PreTrainedModel) -> SubnetScores:
        """Perplexities on all texts that are not for calibration."""
        weights = model.dtype
        if weights not in self._known:
            prepared = self._prepared
            # On a copy: what is exported keeps its own type and place.
            same = model.dtype == prepared.dtype and model.device.type == prepared.device.type
            measured = model if same else copy.deepcopy(model)
            on_device(measured, prepared.device, prepared.dtype)
            splits = prepared.splits
            fitness, _ = _perplexities(measured, splits.fitness)
            held_out, texts = _perplexities(measured, splits.held_out)
            off = {} if splits.off_text is None else _perplexities(measured, splits.off_text)[1]
            self._known[weights] = SubnetScores(fitness, held_out, {**texts, **off})
        return self._known[weights]


def _perplexities(model: PreTrainedModel, windows: WindowSet) -> tuple[float, dict[str, float]]:
    """Perplexity of all windows, and of each kind of text."""
    losses = window_losses(model, windows)
    return losses.perplexity, losses.perplexities(windows.kinds)
