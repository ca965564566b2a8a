"""One pass over the calibration text: unit scores for the search, Grams for reconstruction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nas_llm.cache import cache_dir, keep_folder
from nas_llm.calibration._gram import BlockGrams, Gram, stream_grams
from nas_llm.calibration._heads import HEAD_SCORERS, score_costs
from nas_llm.calibration._importance import importance
from nas_llm.calibration._obs import obs
from nas_llm.calibration._score_grams import ScoreGrams
from nas_llm.calibration._store import GramStore
from nas_llm.calibration._value_rotation import rotate_values, rotated_gram, value_rotation
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.models import DenseModel, rotate_state
from nas_llm.settings import CalibrationDefaults, SpaceDefaults
from nas_llm.space import Architecture, AttentionLayout, FloatArray, UnitScores

# Raised whenever the meaning of what is kept changes.
_FORMAT = 1
_ROTATIONS = "rotations.safetensors"


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
        dense: The model that scores and Grams speak of: the given one, or the same function with its values in another
            basis.
    """

    scores: UnitScores
    key: str
    tokens: int
    dense: DenseModel
    _store: GramStore
    _scores: ScoreGrams

    def grams(self, layer: int) -> tuple[Gram, Gram]:
        """Grams of the inputs of a block's o and fc2."""
        return self._store.get(layer, self.tokens)

    def score_gram(self, layer: int) -> Tensor:
        """What the channels of q and k add to the scores: ``H x d x d``, see :class:`ScoreGrams`."""
        return self._scores.get(layer)


def calibrate(
    dense: DenseModel,
    windows: WindowSet,
    *,
    scorer: str = CalibrationDefaults.scorer,
    damping: float = CalibrationDefaults.damping,
    layout: AttentionLayout | None = None,
    rotate: bool = SpaceDefaults.rotate_values,
    device: torch.device,
    on_layer: Callable[[int], None] = lambda layer: None,
) -> Calibration:
    """Score the units of a dense model; results are kept in the cache folder and found again by content.

    Args:
        dense: The model.
        windows: Calibration windows.
        scorer: ``importance`` (equations 1-3) or ``obs`` (nested block elimination).
        damping: Ridge on X X^T as a fraction of its mean diagonal.
        layout: Of the attention masks; default ``kv_group``.
        rotate: Whether values are turned inside each KV group first (see :func:`value_rotation`): scores and Grams are
            then those of :attr:`Calibration.dense`.
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
        "model": dense.identity,
        "windows": windows.digest(),
        "scorer": scorer,
        "damping": damping,
        "device": device.type,
    }
    inside = layout if layout is not None and layout.axes else None
    if inside is not None:
        settings |= {"mode": inside.mode, "rotary_dim": inside.rotary_dim, "scores": 2}
    if rotate:
        settings["rotate"] = 1
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    target = cache_dir() / "calibration" / key
    score_grams = ScoreGrams(dense, windows, device)

    def make(folder: Path) -> None:
        store = GramStore(folder)
        attn, mlp, heads, rotations = [], [], [], {}
        for layer, grams in stream_grams(dense, windows, device=device):
            weights = {name: weight.to(device) for name, weight in dense.block_state(layer).items()}
            if rotate:
                order = _order(dense.architecture, score_grams.get(layer), damping) if _tied(inside) else None
                weight = weights[f"{dense.adapter.names.o}.weight"]
                rotation = value_rotation(dense.architecture, weight, grams.o_in, order)
                rotations[str(layer)] = rotation
                weights = rotate_state(dense.adapter.names, dense.architecture, weights, rotation)
                grams = replace(grams, o_in=rotated_gram(dense.architecture, grams.o_in, rotation))
            attn_scores, mlp_scores = SCORERS[scorer](dense, weights, grams, damping=damping)
            attn.append(attn_scores)
            mlp.append(mlp_scores)
            if inside is not None:
                score_gram = score_grams.get(layer).to(device)
                found = HEAD_SCORERS[scorer](dense, weights, grams, inside, score_gram=score_gram, damping=damping)
                heads.append(found)
            store.put(layer, grams.o_in, grams.fc2_in)
            on_layer(layer)
        if rotate:
            save_file(rotations, folder / _ROTATIONS)
        if inside is None:
            UnitScores(_rounded(attn), _rounded(mlp)).save(folder / "scores.npz")
        else:
            UnitScores(_rounded(heads), _rounded(mlp), inside, _rounded(attn)).save(folder / "scores.npz")

    keep_folder(target, make, witness="scores.npz")
    if rotate:
        rotations = load_file(target / _ROTATIONS)
        turned = [rotations[str(layer)] for layer in range(dense.architecture.num_layers)]
        dense = rotate_values(dense, turned, key=f"values-{key}")
    scores = UnitScores.load(target / "scores.npz")
    return Calibration(scores, key, windows.num_tokens, dense, GramStore(target), score_grams)


def _tied(layout: AttentionLayout | None) -> bool:
    return layout is not None and len(layout.axes) == 1


def _order(architecture: Architecture, score_gram: Tensor, damping: float) -> Tensor:
    """Channels of each KV head, those that matter most to q and k first: ``K x d``."""
    costs = score_costs(architecture, score_gram, damping)
    # The two channels of a rotary pair stay beside each other in the order.
    pairs = architecture.rotary_channels // 2
    partner = torch.arange(architecture.head_dim)
    partner[pairs : 2 * pairs] -= pairs
    order = torch.stack([torch.argsort(-row[partner], stable=True) for row in costs])
    return torch.stack([row[torch.argsort(_first_seen(partner[row]), stable=True)] for row in order])


def _first_seen(labels: Tensor) -> Tensor:
    """For each entry the place at which its label stands first."""
    seen: dict[int, int] = {}
    return torch.tensor([seen.setdefault(label, place) for place, label in enumerate(labels.tolist())])


def _rounded(scores: Sequence[Tensor]) -> FloatArray:
    """Scores of all layers, in float32: copies of one unit score alike, so that their order is that of their places.

    The inverses behind the scores differ in their last digits from one number of threads to another.
    """
    return torch.stack(list(scores)).float().double().numpy()
