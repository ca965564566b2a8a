"""Importance of every searchable unit, as the operators see it: plain numpy."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from nas_llm.errors import SpaceError
from nas_llm.space._genome import BoolArray

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class UnitScores:
    """Scores of all units; only their order inside one layer is used.

    Args:
        attn: ``L x K`` float, larger = rather inherited.
        mlp: ``L x P`` float, larger = rather inherited.

    Raises:
        SpaceError: If the arrays are not 2-d and finite with the same number of rows.
    """

    attn: FloatArray
    mlp: FloatArray

    def __post_init__(self) -> None:
        for name in ("attn", "mlp"):
            scores = np.array(getattr(self, name), dtype=np.float64, order="C", copy=True)
            if scores.ndim != 2 or not np.isfinite(scores).all():
                raise SpaceError(f"{name} scores must be a finite 2-d array")
            scores.flags.writeable = False
            object.__setattr__(self, name, scores)
        if len(self.attn) != len(self.mlp):
            raise SpaceError(f"attn scores have {len(self.attn)} layers and mlp scores {len(self.mlp)}")

    def attn_ranks(self, layer: int) -> FloatArray:
        """``K`` ranks of a layer's KV groups in (0, 1], 1 = most important; ties go to the lower index."""
        return _ranks(self.attn[layer])

    def mlp_ranks(self, layer: int) -> FloatArray:
        """``P`` ranks of a layer's FFN channels in (0, 1], 1 = most important; ties go to the lower index."""
        return _ranks(self.mlp[layer])

    def top_attn(self, layer: int, count: int) -> BoolArray:
        """``K`` mask of the ``count`` most important KV groups."""
        return _top(self.attn[layer], count)

    def top_mlp(self, layer: int, count: int) -> BoolArray:
        """``P`` mask of the ``count`` most important FFN channels."""
        return _top(self.mlp[layer], count)

    def digest(self) -> str:
        """Content hash, 32 hex digits."""
        return hashlib.blake2b(self.attn.tobytes() + self.mlp.tobytes(), digest_size=16).hexdigest()

    def save(self, path: Path) -> None:
        """Write as ``.npz``."""
        with path.open("wb") as file:
            self.write(file)

    def write(self, file: BinaryIO) -> None:
        """Write as ``.npz`` to an open file."""
        np.savez_compressed(file, attn=self.attn, mlp=self.mlp)

    @classmethod
    def load(cls, path: Path) -> UnitScores:
        """Read what :meth:`save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["attn"], arrays["mlp"])


def _ranks(scores: FloatArray) -> FloatArray:
    order = np.argsort(-scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = 1.0 - np.arange(len(scores)) / len(scores)
    return ranks


def _top(scores: FloatArray, count: int) -> BoolArray:
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores, kind="stable")[:count]] = True
    return mask
