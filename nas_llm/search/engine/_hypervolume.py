"""Objectives on a common scale, and the normalised hypervolume."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pymoo.indicators.hv import HV

from nas_llm.space import FloatArray, Objective, objective

# A subnet 20 times as perplexed as the dense model is of no use to anybody; both quality objectives end there.
WORST_QUALITY = 20.0
WORST_COST = 1.01


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
    records = [objective(name) for name in names]
    return _scaled([objectives[name] for name in names], records, _dense_costs(names, records, dense))


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
    records = [objective(name) for name in names]
    costs = _dense_costs(names, records, dense)
    scaled = np.stack([_scaled(row.tolist(), records, costs) for row in rows])
    reference = np.ones(len(names))
    for column, (name, record) in enumerate(zip(names, records, strict=True)):
        if record.measured:
            best = dense[name] if record.dense is None else record.dense
            scaled[:, column] -= record.scaled(best, best)
            scaled[:, column] /= math.log(worst_quality)
        else:
            reference[column] = worst_cost
    scaled = np.maximum(scaled, 0.0)
    return float(HV(ref_point=reference)(scaled) / reference.prod())


def _dense_costs(names: Sequence[str], records: Sequence[Objective], dense: Mapping[str, float]) -> list[float]:
    """What each objective is counted in; measured ones are not."""
    return [1.0 if record.measured else dense[name] for name, record in zip(names, records, strict=True)]


def _scaled(values: Iterable[float], records: Sequence[Objective], costs: Sequence[float]) -> FloatArray:
    row = [record.scaled(float(value), cost) for value, record, cost in zip(values, records, costs, strict=True)]
    return np.array(row, dtype=np.float64)
