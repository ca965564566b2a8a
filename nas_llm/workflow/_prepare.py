"""From a problem definition to everything a search needs: model, text, scores, space, evaluators."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from nas_llm import _format
from nas_llm.cache import cache_dir
from nas_llm.calibration import Calibration, calibrate
from nas_llm.config import Problem
from nas_llm.data import Splits, WindowSet, build_splits
from nas_llm.errors import Interrupted
from nas_llm.evaluation import latency_table
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.models import DenseModel, load_model, resolve_device, resolve_dtype
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.search import CostConstraints, RayEvaluator, RayPool, check_feasible
from nas_llm.space import Architecture, CostModel, Genome, LatencyTable, SearchSpace, UnitScores
from nas_llm.subnet import PopulationEvaluator, Racing, TaylorMarginals
from nas_llm.workflow._resources import Resources
from nas_llm.workflow._self_texts import self_texts

# What a worker on this machine has to know, too.
_WORKER_ENVIRONMENT = ("NAS_LLM_CACHE", "HF_HUB_OFFLINE", "HF_HOME", "TRANSFORMERS_VERBOSITY", "TQDM_DISABLE")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A problem with its model, text and calibration loaded.

    Attributes:
        problem: The definition.
        dense: The model.
        device: Where candidates are evaluated.
        dtype: Their arithmetic.
        splits: Its windows.
        calibration: Scores and Grams.
        space: Allowed genomes.
        cost_model: Their exact costs.
    """

    problem: Problem
    dense: DenseModel
    device: torch.device
    dtype: torch.dtype
    splits: Splits
    calibration: Calibration
    space: SearchSpace
    cost_model: CostModel
    resources: Resources = field(default_factory=Resources)
    pool: RayPool | None = None

    def evaluator(
        self, windows: WindowSet, *, metric: str, weights: str | None = None
    ) -> PopulationEvaluator | RayEvaluator:
        """An evaluator on some windows: in the workers where there are any, else in this process.

        Args:
            windows: The text.
            metric: ``perplexity`` or ``kl``.
            weights: ``inherited`` or ``reconstructed``; default: what the problem's fitness uses.
        """
        if self.pool is None:
            return self.local_evaluator(windows, metric=metric, weights=weights)
        key = f"{windows.digest()} {metric} {weights}"
        return self.pool.evaluator(key, partial(_build_evaluator, windows=windows, metric=metric, weights=weights))

    def local_evaluator(self, windows: WindowSet, *, metric: str, weights: str | None = None) -> PopulationEvaluator:
        """An evaluator in this process; see :meth:`evaluator`.

        Args:
            windows: The text.
            metric: ``perplexity`` or ``kl``.
            weights: ``inherited`` or ``reconstructed``; default: what the problem's fitness uses.
        """
        reconstructor = None
        if (weights or self.problem.fitness.weights) == "reconstructed":
            reconstructor = self._reconstructor()
        return PopulationEvaluator(
            self.dense,
            windows,
            metric=metric,
            device=self.device,
            dtype=self.dtype,
            reconstructor=reconstructor,
            memory_bytes=self.resources.memory_bytes,
            racing=Racing() if self.problem.fitness.racing else None,
        )

    def marginals(self, scores: UnitScores) -> TaylorMarginals:
        """First-order marginals on the calibration windows, of candidates as they are priced.

        Args:
            scores: Importance of all units.
        """
        problem, architecture = self.problem, self.dense.architecture
        multiple = problem.space.ffn_multiple
        steps = round(problem.search.descent.step_ratio * architecture.intermediate_size / multiple)
        return TaylorMarginals(
            self.dense,
            self.splits.calibration,
            metric=problem.quality,
            scores=scores,
            step=max(1, steps) * multiple,
            tokens=problem.search.descent.tokens,
            device=self.device,
            dtype=self.dtype,
            reconstructor=self._reconstructor() if problem.fitness.weights == "reconstructed" else None,
            seed=problem.seed,
        )

    def _reconstructor(self) -> BlockReconstructor:
        """The closed form on the calibration windows, which candidates are priced with."""
        return BlockReconstructor(
            self.dense,
            self.calibration,
            damping=self.problem.reconstruction.pricing_damping,
            device=self.device,
            # Enough to rank candidates; finished models are solved in float64.
            dtype=torch.float32,
        )


def prepare(
    problem: Problem,
    *,
    base_dir: Path,
    on_event: EventHandler,
    should_stop: Callable[[], bool] = lambda: False,
    resources: Resources | None = None,
    dtype: str | None = None,
    latency: LatencyTable | None = None,
) -> Prepared:
    """Load the model, cut the text into splits, calibrate.

    What is cheap to check is checked first. Converted models, sampled text, calibrations and latency tables are kept in
    the cache folder and found again.

    Args:
        problem: The definition.
        base_dir: Folder that its relative paths start from.
        on_event: Told what happens.
        should_stop: Polled between steps.
        resources: What may be used; the workers themselves are started by :func:`with_workers`.
        dtype: Arithmetic that an earlier run was resolved to; default: what the problem says.
        latency: Latency table that an earlier run began with; default: where latency is an objective, the one in the
            cache, or one that is measured now.

    Raises:
        NasLlmError: If any part of the definition cannot be met.
        Interrupted: If ``should_stop`` said so.
    """

    def checkpoint() -> None:
        if should_stop():
            raise Interrupted

    resources = resources or Resources()
    if resources.threads is not None and not resources.num_workers:
        torch.set_num_threads(resources.threads)
    on_event(StageStarted("model", problem.model.source))
    device = resolve_device(problem.model.device)
    timed = "latency" in problem.objectives and latency is None
    timed_device = resolve_device(problem.latency.device) if timed and problem.latency.device != "auto" else device
    dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
    architecture = dense.architecture
    space = search_space(problem, architecture)
    cost_model = CostModel(architecture, sequence_length=problem.sequence_length, latency=latency)
    check_feasible(space, cost_model, CostConstraints(problem.constraints))
    on_event(
        StageFinished(
            "model",
            f"{architecture.num_layers} layers, {cost_model.dense.params / 1e6:.1f} M parameters, of which "
            f"{cost_model.dense.block_params / 1e6:.1f} M in decoder blocks",
        )
    )
    checkpoint()
    resolved_dtype = resolve_dtype(dtype or problem.model.dtype, device)
    if timed:
        table = _latency_table(dense, problem, timed_device, resolved_dtype, on_event, checkpoint)
        cost_model = CostModel(architecture, sequence_length=problem.sequence_length, latency=table)

    on_event(StageStarted("data"))
    splits = build_splits(
        problem.data,
        tokenizer=dense.tokenizer,
        self_texts=lambda tokens: self_texts(
            dense, tokens, settings=problem.data.self_sample, device=device, on_event=on_event
        ),
        base_dir=base_dir,
        reconstruction=problem.reconstruction_split,
    )
    sizes = ", ".join(
        f"{windows.name.replace('_', '-')} {windows.num_tokens:,}"
        for windows in (splits.calibration, splits.fitness, splits.held_out, splits.reconstruction)
        if windows is not None
    )
    on_event(StageFinished("data", f"{sizes} tokens"))
    checkpoint()

    def on_layer(layer: int) -> None:
        on_event(StageAdvanced("calibration", layer + 1))
        checkpoint()

    on_event(StageStarted("calibration", f"{problem.calibration.scorer} scores", architecture.num_layers))
    calibration = calibrate(
        dense,
        splits.calibration,
        scorer=problem.calibration.scorer,
        damping=problem.calibration.damping,
        device=device,
        on_layer=on_layer,
    )
    on_event(StageFinished("calibration", f"{splits.calibration.num_tokens:,} tokens"))
    return Prepared(
        problem=problem,
        dense=dense,
        device=device,
        dtype=resolved_dtype,
        splits=splits,
        calibration=calibration,
        space=space,
        cost_model=cost_model,
        resources=resources,
    )


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
        cost_model=prepared.cost_model,
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
    cost_model: CostModel,
) -> Prepared:
    """What :func:`prepare` makes, in a worker: the text comes along, calibration is found in the cache or done anew."""
    os.environ.update(settings)
    assert resources.threads is not None
    torch.set_num_threads(resources.threads)
    device = resolve_device(problem.model.device)
    dense = load_model(problem.model.source, revision=problem.model.revision, offload=problem.model.offload)
    return Prepared(
        problem=problem,
        dense=dense,
        device=device,
        dtype=resolve_dtype(dtype, device),
        splits=splits,
        calibration=calibrate(
            dense,
            splits.calibration,
            scorer=problem.calibration.scorer,
            damping=problem.calibration.damping,
            device=device,
        ),
        space=search_space(problem, dense.architecture),
        cost_model=cost_model,
        resources=resources,
    )


def _build_evaluator(host: Prepared, *, windows: WindowSet, metric: str, weights: str | None) -> PopulationEvaluator:
    return host.local_evaluator(windows, metric=metric, weights=weights)


def search_space(problem: Problem, architecture: Architecture) -> SearchSpace:
    """The genomes that a problem allows."""
    return SearchSpace(
        architecture,
        ffn_multiple=problem.space.ffn_multiple,
        attn_ratio=problem.space.attn_ratio,
        mlp_ratio=problem.space.mlp_ratio,
        min_attn_layers=problem.space.min_attn_layers,
        min_mlp_layers=problem.space.min_mlp_layers,
        protected_layers=problem.space.protected_layers,
    )


def _latency_table(
    dense: DenseModel,
    problem: Problem,
    device: torch.device,
    dtype: torch.dtype,
    on_event: EventHandler,
    checkpoint: Callable[[], None],
) -> LatencyTable:
    """The table that the objective latency is looked up in."""
    settings, stage = problem.latency, "latency"

    def on_round(done: int) -> None:
        on_event(StageAdvanced(stage, done))
        checkpoint()

    table = latency_table(
        dense,
        settings,
        ffn_multiple=problem.space.ffn_multiple,
        device=device,
        dtype=dtype if settings.dtype == "auto" else resolve_dtype(settings.dtype, device),
        cache_dir=cache_dir() / "latency",
        on_start=lambda detail: on_event(StageStarted(stage, detail, settings.repeats)),
        on_round=on_round,
    )
    seconds = table(Genome.dense(dense.architecture))
    on_event(StageFinished(stage, f"{_format.latency(seconds)} for the dense model on {table.device}, predicted"))
    return table
