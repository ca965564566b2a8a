"""A problem, checked without weights and without a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from nas_llm.calibration import calibration_bytes, kept_gram_bytes
from nas_llm.config import LoadedProblem
from nas_llm.errors import ConfigError
from nas_llm.models import fast_float32, known_architecture, matmul_rate, resolve_device, resolve_dtype
from nas_llm.search import check_algorithm, check_operators
from nas_llm.session import problem_costs, search_space
from nas_llm.space import Cost, CostConstraints, check_feasible
from nas_llm.subnet import least_memory
from nas_llm.workflow.check._effort import search_effort
from nas_llm.workflow.check._window import cost_window

# Sides of the matrices whose product is timed: as wide as those of a model, and large enough to keep a GPU busy.
_SIDES = {"cpu": 1536, "cuda": 8192}

Rate = Callable[[torch.device, torch.dtype], float]
"""Multiply-accumulates per second of a device in some arithmetic."""


@dataclass(frozen=True, kw_only=True)
class ProblemCheck:
    """What a problem asks for.

    Attributes:
        name: The problem.
        dense: Cost of the dense model.
        lowest: Cost of the smallest genome that the space reaches within the constraints.
        highest: Cost of the largest.
        memory: Bytes of weights in the arithmetic of candidates, and of what calibration or evaluation needs beside
            them, whichever is more.
        disk: Bytes of the Gram matrices that the cache folder keeps.
        candidates: Genomes evaluated, at most.
        seconds: Estimated time of the whole search: its multiply-accumulates over a measured rate.
        device: Where candidates run.
        dtype: Their arithmetic.
        rate: Multiply-accumulates per second there, as measured.
    """

    name: str
    dense: Cost
    lowest: Cost
    highest: Cost
    memory: int
    disk: int
    candidates: int
    seconds: float
    device: str
    dtype: str
    rate: float


@cache
def measured_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-accumulates per second of a large matrix product, measured once in a second or less."""
    side = _SIDES.get(device.type, _SIDES["cpu"])
    with fast_float32(device):
        return matmul_rate(device, dtype, rows=side, inner=side, columns=side)


def check_problem(loaded: LoadedProblem, *, rate: Rate = measured_rate) -> ProblemCheck:
    """Check a problem as far as that goes without its weights and texts.

    Args:
        loaded: The definition.
        rate: Speed of the machine that the time is estimated for.

    Raises:
        NasLlmError: If the sizes of the model are not known here, the space or the constraints do not fit them, an
            operator or algorithm does not exist, or the windows are longer than the model's positions.
    """
    problem = loaded.problem
    window, constraints = problem.data.window, CostConstraints(problem.bounds)
    check_algorithm(problem.search, constraints)
    check_operators(problem.search.operators)
    architecture = known_architecture(problem.model.source, problem.model.revision)
    if window > architecture.max_positions:
        raise ConfigError(
            f"data.window ({window}) is more than the {architecture.max_positions} positions of model "
            f"'{problem.model.source}'; lower it"
        )
    device = resolve_device(problem.model.device)
    dtype = resolve_dtype(problem.model.dtype, device)
    named = str(dtype).removeprefix("torch.")
    cost_model = problem_costs(problem, architecture, base_dir=loaded.base_dir, dtype=named)
    space = search_space(problem, architecture)
    check_feasible(space, cost_model, constraints)
    lowest, highest = cost_window(space, cost_model, constraints)
    effort = search_effort(problem, cost_model, lowest, highest)
    calibration = calibration_bytes(architecture, tokens=problem.data.calibration.tokens)
    evaluation = least_memory(architecture, window=window, dtype=dtype)
    speed = rate(device, dtype)
    seconds = effort.evaluation / speed
    seconds += effort.calibration / rate(device, torch.float32)
    if effort.refits:
        seconds += effort.refits / rate(device, torch.float64)
    return ProblemCheck(
        name=problem.name,
        dense=cost_model.dense,
        lowest=lowest,
        highest=highest,
        memory=cost_model.dense.params * dtype.itemsize + max(calibration, evaluation),
        disk=kept_gram_bytes(architecture),
        candidates=effort.candidates,
        seconds=seconds,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
        rate=speed,
    )
