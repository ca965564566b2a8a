"""One pass over the calibration text: unit scores for the search, Grams for reconstruction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.calibration._gram import BlockGrams, Gram, stream_grams
from nas_llm.calibration._importance import importance
from nas_llm.calibration._obs import obs
from nas_llm.calibration._store import GramStore
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel
from nas_llm.settings import CalibrationDefaults
from nas_llm.space import FloatArray, UnitScores

# Raised whenever the meaning of what is kept changes.
_FORMAT = 1


class Scorer(Protocol):
    """Scores one block's units, larger = rather inherited; one scorer a file."""

    def __call__(
        self, dense: DenseModel, weights: Mapping[str, Tensor], grams: BlockGrams, *, damping: float
    ) -> tuple[Tensor, Tensor]:
        """``K`` scores of KV groups and ``P`` scores of FFN channels."""


SCORERS: Mapping[str, Scorer] = {"importance": importance, "obs": obs}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the calibration text says about a dense model.

    Attributes:
        scores: Importance of every unit.
        key: Identity of everything that went in: model, text, scorer, damping.
        tokens: Calibration tokens.
    """

    scores: UnitScores
    key: str
    tokens: int
    _store: GramStore

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        """Grams of the inputs of a block's o and fc2."""
        return self._store.get(layer, self.tokens)


def calibrate(
    dense: DenseModel,
    windows: WindowSet,
    *,
    scorer: str = CalibrationDefaults.scorer,
    damping: float = CalibrationDefaults.damping,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Calibration:
    """Score the units of a dense model; results are kept in the cache folder and found again by content.

    Args:
        dense: The model.
        windows: Calibration windows.
        scorer: ``importance`` (equations 1-3) or ``obs`` (nested block elimination).
        damping: Ridge on X X^T as a fraction of its mean diagonal.
        device: Where to compute.
        on_layer: Called with a block's index when it is done.

    Raises:
        ConfigError: If the scorer is unknown.
        RunError: If the cache folder cannot be written.
    """
    if scorer not in SCORERS:
        raise ConfigError(f"unknown scorer '{scorer}'; known are {', '.join(SCORERS)}")
    settings = {
        "format": _FORMAT,
        "model": dense.revision,
        "windows": windows.digest(),
        "scorer": scorer,
        "damping": damping,
        "device": device.type,
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    target = cache_dir() / "calibration" / key

    def make(folder: Path) -> None:
        store = GramStore(folder)
        attn, mlp = [], []
        for layer, grams in stream_grams(dense, windows, device=device):
            weights = {name: weight.to(device) for name, weight in dense.block_state(layer).items()}
            attn_scores, mlp_scores = SCORERS[scorer](dense, weights, grams, damping=damping)
            attn.append(attn_scores)
            mlp.append(mlp_scores)
            store.put(layer, grams.o_in, grams.fc2_in)
            on_layer(layer)
        UnitScores(_rounded(attn), _rounded(mlp)).save(folder / "scores.npz")

    keep_folder(target, make, witness="scores.npz")
    return Calibration(UnitScores.load(target / "scores.npz"), key, windows.num_tokens, GramStore(target))


def _rounded(scores: Sequence[Tensor]) -> FloatArray:
    """Scores of all layers, in float32: copies of one unit score alike, so that their order is that of their places.

    The inverses behind the scores differ in their last digits from one number of threads to another.
    """
    return torch.stack(list(scores)).float().double().numpy()
