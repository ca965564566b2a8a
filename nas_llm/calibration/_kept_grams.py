"""Grams of output-projection inputs on any windows, kept in the cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.calibration._gram import Gram, stream_grams
from nas_llm.calibration._score_grams import ScoreGrams
from nas_llm.calibration._store import GramStore
from nas_llm.data import WindowSet
from nas_llm.models import DenseModel

# Raised whenever the meaning of what is kept changes.
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class KeptGrams:
    """What a text says about the inputs of a dense model's output projections.

    Attributes:
        key: Identity of model and text.
        tokens: Tokens of the text.
    """

    key: str
    tokens: int
    _store: GramStore
    _scores: ScoreGrams

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        """Grams of the inputs of a block's o and fc2."""
        return self._store.get(layer, self.tokens)

    def score_gram(self, layer: int) -> Tensor:
        """What the channels of q and k add to the scores: ``H x d x d``, see :class:`ScoreGrams`."""
        return self._scores.get(layer)


def keep_grams(
    dense: DenseModel,
    windows: WindowSet,
    *,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> KeptGrams:
    """Grams of a dense model on some windows; found again in the cache folder by content.

    Args:
        dense: The model.
        windows: The text.
        device: Where to compute.
        on_layer: Called with a block's index when it is done.

    Raises:
        RunError: If the cache folder cannot be written.
    """
    settings = {"format": _FORMAT, "model": dense.identity, "windows": windows.digest(), "device": device.type}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        store = GramStore(folder)
        for layer, grams in stream_grams(dense, windows, device=device):
            store.put(layer, grams.o_in, grams.fc2_in)
            on_layer(layer)

    target, last = cache_dir() / "grams" / key, dense.architecture.num_layers - 1
    keep_folder(target, make, witness=GramStore.file_name(last))
    return KeptGrams(key, windows.num_tokens, GramStore(target), ScoreGrams(dense, windows, device))
