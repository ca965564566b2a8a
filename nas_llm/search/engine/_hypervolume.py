"""Objectives on a common scale, and the normalised hypervolume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pymoo.indicators.hv import HV

from nas_llm.space import FloatArray

# A subnet 20 times as perplexed as the dense model is of no use to anybody; both quality objectives end there.
WORST_QUALITY = 20.0
WORST_COST = 1.01
# ln(perplexity) of a broken subnet is cut here, far above ln(vocabulary), to keep all arithmetic finite.
_WORST_LOG = 100.0


def search_scale(objectives: Mapping[str, float], names: Sequence[str], dense: Mapping[str, float]) -> FloatArray:
    """The objectives as an algorithm sees them: ln(perplexity), kl in nats, costs as fractions of the dense cost.

    The transformation keeps the order of every objective, so fronts stay what they are, but crowding distances and
    reference directions are not ruled by one perplexity in the thousands.

    Args:
        objectives: Raw values by name.
        names: The objectives, in order.
        dense: Raw costs of the dense model by name.

    Returns:
        One finite number an objective.
    """
    row = []
    for name in names:
        value = float(objectives[name])
        if name == "perplexity":
            value = math.log(value) if value > 0.0 else math.nan
        if name in ("perplexity", "kl"):
            value = min(value, _WORST_LOG) if not math.isnan(value) else _WORST_LOG
        else:
            value /= dense[name]
        row.append(value)
    return np.array(row, dtype=np.float64)


def normalised_hypervolume(
    objectives: npt.ArrayLike,
    names: Sequence[str],
    dense: Mapping[str, float],
    *,
    worst_quality: float = WORST_QUALITY,
    worst_cost: float = WORST_COST,
) -> float:
    """Share of the box between the dense model's quality at no cost and a useless subnet that a set dominates.

    Perplexity counts on a log scale from the dense model's (0) to 20 times that (1), kl linearly from 0 to ln 20
    nats (the same excess loss); costs count as fractions of the dense cost, up to a reference just above 1. The
    reference point depends on nothing but the dense model, so hypervolumes of different runs can be compared.

    Args:
        objectives: ``n x m`` raw objective values; ``n`` may be 0.
        names: The ``m`` objectives.
        dense: Raw objective values of the dense model by name; ``kl`` is not needed.
        worst_quality: Where the box ends: that many times the dense model's perplexity (or its logarithm, for kl).
        worst_cost: Where it ends in the costs, as a multiple of the dense cost.

    Returns:
        A number in [0, 1], larger = better.
    """
    rows = np.asarray(objectives, dtype=np.float64).reshape(-1, len(names))
    if not len(rows):
        return 0.0
    scaled = np.stack([search_scale(dict(zip(names, row.tolist(), strict=True)), names, dense) for row in rows])
    reference = np.ones(len(names))
    for column, name in enumerate(names):
        if name == "perplexity":
            scaled[:, column] -= math.log(dense["perplexity"])
        if name in ("perplexity", "kl"):
            scaled[:, column] /= math.log(worst_quality)
        else:
            reference[column] = worst_cost
    scaled = np.maximum(scaled, 0.0)
    return float(HV(ref_point=reference)(scaled) / reference.prod())
