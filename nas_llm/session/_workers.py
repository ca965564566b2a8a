"""Workers for what was prepared: Ray actors that load the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from nas_llm.calibration import calibrate
from nas_llm.config import Problem, load_plugins
from nas_llm.data import Splits
from nas_llm.models import load_model, resolve_device, resolve_dtype
from nas_llm.session._cost_model import problem_costs
from nas_llm.session._prepared import Prepared, search_space
from nas_llm.session._ray import RayPool
from nas_llm.session._resources import Resources
from nas_llm.space import LatencyTable
from nas_llm.subnet import keep_freed_memory
from nas_llm.workloads import WorkloadTables

# What a worker on this machine has to know, too.
_WORKER_ENVIRONMENT = ("NAS_LLM_CACHE", "HF_HUB_OFFLINE", "HF_HOME", "TRANSFORMERS_VERBOSITY", "TQDM_DISABLE")


@contextmanager
def with_workers(prepared: Prepared) -> Iterator[Prepared]:
    """The same with its workers running, as far as its resources ask for any.

    Raises:
        ConfigError: If Ray is missing or has too little room.
        RunError: If a worker does not start.
    """
    resources = prepared.resources
    if not resources.num_workers:
        yield prepared
        return
    load = partial(
        _load_worker,
        problem=prepared.problem,
        splits=prepared.splits,
        dtype=str(prepared.dtype).removeprefix("torch."),
        resources=Resources(threads=resources.worker_threads, memory_gb=resources.memory_gb),
        settings={name: os.environ[name] for name in _WORKER_ENVIRONMENT if name in os.environ},
        latency=prepared.cost_model.latency,
        workloads=prepared.workloads,
        base_dir=prepared.base_dir,
    )
    pool = RayPool(
        load,
        workers=resources.num_workers,
        address=resources.ray_address,
        threads=resources.worker_threads,
        gpus=1.0 if prepared.device.type == "cuda" else 0.0,
    )
    with pool:
        yield replace(prepared, pool=pool)


def _load_worker(
    *,
    problem: Problem,
    splits: Splits,
    dtype: str,
    resources: Resources,
    settings: Mapping[str, str],
    latency: LatencyTable | None,
    workloads: Mapping[str, WorkloadTables],
    base_dir: Path,
) -> Prepared:
    """What :func:`prepare` makes, in a worker: the text comes along, calibration is found in the cache or done anew."""
    os.environ.update(settings)
    load_plugins(problem, base_dir)
    assert resources.threads is not None
    torch.set_num_threads(resources.threads)
    device = resolve_device(problem.model.device)
    if device.type == "cpu":
        keep_freed_memory()
    dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
    calibration = calibrate(
        dense,
        splits.calibration,
        scorer=problem.calibration.scorer,
        damping=problem.calibration.damping,
        layout=search_space(problem, dense.architecture).layout,
        rotate=problem.space.rotate_values,
        device=device,
    )
    return Prepared(
        problem=problem,
        dense=calibration.dense,
        device=device,
        dtype=resolve_dtype(dtype, device),
        splits=splits,
        calibration=calibration,
        cost_model=problem_costs(
            problem, dense.architecture, base_dir=base_dir, dtype=dtype, latency=latency, workloads=workloads
        ),
        workloads=workloads,
        base_dir=base_dir,
        resources=resources,
    )
