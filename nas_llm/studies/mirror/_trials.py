"""One evaluated genome as a finished Optuna trial."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from nas_llm.config import Problem
from nas_llm.space import COST_NAMES, CostConstraints, Evaluation, Genome, objective
from nas_llm.studies._optuna import CONSTRAINTS

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

ORDINAL = "ordinal"
_THIRDS = ("first", "middle", "last")
_HEADS = {"head": "channels of heads", "qk": "q and k", "vo": "v and o"}


def trial_of_search(trial: FrozenTrial) -> int:
    """The ordinal of the evaluation that a trial shows; 0 for a trial from elsewhere."""
    return int(trial.user_attrs.get(ORDINAL, 0))


def mirrored_trial(row: Evaluation, problem: Problem) -> FrozenTrial:
    """A trial with the genome's objectives, constraints, sizes and digest, but without its masks.

    Its parameters are what a person would turn: how many sublayers and KV groups stay, how much of the heads, and how
    much of the FFN in each third of the layers.

    Args:
        row: The evaluation.
        problem: Its problem.
    """
    from optuna.trial import TrialState, create_trial

    values = [row.objectives[name] for name in problem.objective_names]
    bounds = CostConstraints(problem.bounds)
    violations = dict(zip((key for key, _, _ in bounds.bounds), bounds.violations(row.cost).tolist(), strict=True))
    genome = row.genome
    params, distributions = _shape(genome)
    broken = not all(math.isfinite(value) for value in values)
    attributes: dict[str, Any] = {
        # First, so that no name of a stranger's hides one of these.
        **{objective(name).label: value for name, value in row.cost.further.items()},
        ORDINAL: row.ordinal,
        "generation": row.generation,
        "digest": row.digest,
        "seconds": round(row.seconds, 4),
        "fidelity": row.fidelity,
        **{unit: [layer[unit] for layer in genome.layer_sizes()] for unit in genome.layer_sizes()[0]},
        **{name: value for name in COST_NAMES if (value := getattr(row.cost, name)) is not None},
    }
    trial = create_trial(
        # A subnet that computes nothing has no perplexity to draw.
        state=TrialState.FAIL if broken else TrialState.COMPLETE,
        values=None if broken else values,
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        # The dashboard knows constraints in this older form.
        system_attrs={CONSTRAINTS: list(violations.values())} if violations else {},
        constraints=violations,
    )
    assert trial.datetime_complete is not None
    trial.datetime_start = trial.datetime_complete - timedelta(seconds=row.seconds)
    return trial


def _shape(genome: Genome) -> tuple[dict[str, Any], dict[str, Any]]:
    from optuna.distributions import FloatDistribution, IntDistribution

    layers, groups = genome.num_layers, genome.layout.num_kv_heads
    params: dict[str, Any] = {
        "attention layers": int((genome.kv_groups > 0).sum()),
        "FFN layers": int((genome.ffn_channels > 0).sum()),
        "KV groups": int(genome.kv_groups.sum()),
    }
    distributions: dict[str, Any] = {
        "attention layers": IntDistribution(0, layers),
        "FFN layers": IntDistribution(0, layers),
        "KV groups": IntDistribution(0, layers * groups),
    }
    for axis, widths in zip(genome.layout.axes, genome.head_widths, strict=True):
        key = f"{_HEADS[axis.name]} kept"
        kept = genome.kv_groups * widths / (groups * genome.layout.head_dim)
        params[key], distributions[key] = round(float(kept.mean()), 6), FloatDistribution(0.0, 1.0)
    shares = genome.ffn_channels / genome.mlp_mask.shape[1]
    for name, part in zip(_THIRDS, np.array_split(shares, len(_THIRDS)), strict=True):
        key = f"FFN kept, {name} third"
        params[key] = round(float(part.mean()), 6) if len(part) else 0.0
        distributions[key] = FloatDistribution(0.0, 1.0)
    return params, distributions
