"""A problem with everything loaded that a search of it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import torch

from nas_llm.calibration import Calibration
from nas_llm.config import Problem, load_plugins
from nas_llm.data import Splits, WindowSet
from nas_llm.models import DenseModel, family_use
from nas_llm.plugins import PluginUse
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.runs import Resolved, package_versions
from nas_llm.session._ray import RayEvaluator, RayPool
from nas_llm.session._resources import Resources
from nas_llm.space import Architecture, CostModel, SearchSpace, UnitScores
from nas_llm.subnet import PopulationEvaluator, Racing, TaylorMarginals
from nas_llm.workloads import WorkloadTables


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
        cost_model: Exact costs of genomes.
        base_dir: Folder that relative paths of the definition start from.
        resources: What may be used.
        pool: The workers, where there are any.
        workloads: Measured times of workloads whose seconds are minimised or limited, by name.
    """

    problem: Problem
    dense: DenseModel
    device: torch.device
    dtype: torch.dtype
    splits: Splits
    calibration: Calibration
    cost_model: CostModel
    base_dir: Path
    resources: Resources = field(default_factory=Resources)
    pool: RayPool | None = None
    workloads: Mapping[str, WorkloadTables] = field(default_factory=dict)

    @cached_property
    def space(self) -> SearchSpace:
        """Allowed genomes."""
        return search_space(self.problem, self.dense.architecture)

    def evaluator(
        self, windows: WindowSet, *, metric: str, weights: str | None = None
    ) -> PopulationEvaluator | RayEvaluator:
        """An evaluator on some windows: in the workers where there are any, else in this process.

        Args:
            windows: The text.
            metric: ``perplexity``, ``kl``, ``margin`` or ``fitness``; questions and terms are the problem's.
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
            metric: ``perplexity``, ``kl``, ``margin`` or ``fitness``; questions and terms are the problem's.
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
            questions=self.splits.questions,
            terms=self.problem.fitness.terms,
        )

    def resolved(self) -> Resolved:
        """What the definition was resolved to, for ``problem.toml`` and to be compared on a resumption."""
        splits, plugins = self.splits, load_plugins(self.problem, self.base_dir)
        return Resolved(
            base_dir=str(self.base_dir),
            model_revision=self.dense.revision,
            data={text.name: text.digest() for text in splits.measured},
            device=self.device.type,
            dtype=str(self.dtype).removeprefix("torch."),
            versions=package_versions(),
            plugins={name: use.to_dict() for name, use in (plugins | self._own_family()).items()},
        )

    def _own_family(self) -> dict[str, PluginUse]:
        """Which code stands behind the model's family, if it is not the package's."""
        use = family_use(self.dense.adapter)
        return {} if use is None else {f"family {self.dense.adapter.name}": use}

    def marginals(self, scores: UnitScores) -> TaylorMarginals:
        """First-order marginals on the calibration windows and the questions, of candidates as they are evaluated.

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
            head_step=self.space.head_multiple if self.space.layout.axes else 0,
            tokens=problem.search.descent.tokens,
            device=self.device,
            dtype=self.dtype,
            reconstructor=self._reconstructor() if problem.fitness.weights == "reconstructed" else None,
            seed=problem.seed,
            questions=self.splits.questions,
            terms=problem.fitness.terms,
        )

    def _reconstructor(self) -> BlockReconstructor:
        """The closed form on the calibration windows, which candidates are evaluated with."""
        return BlockReconstructor(
            self.dense,
            self.calibration,
            damping=self.problem.reconstruction.pricing_damping,
            device=self.device,
            # Enough to rank candidates; finished models are solved in float64.
            dtype=torch.float32,
        )


def _build_evaluator(host: Prepared, *, windows: WindowSet, metric: str, weights: str | None) -> PopulationEvaluator:
    return host.local_evaluator(windows, metric=metric, weights=weights)


def search_space(problem: Problem, architecture: Architecture) -> SearchSpace:
    """The genomes that a problem allows."""
    return SearchSpace(
        architecture,
        attention=problem.space.attention,
        head_multiple=problem.space.head_multiple,
        ffn_multiple=problem.space.ffn_multiple,
        attn_ratio=problem.space.attn_ratio,
        mlp_ratio=problem.space.mlp_ratio,
        min_attn_layers=problem.space.min_attn_layers,
        min_mlp_layers=problem.space.min_mlp_layers,
        protected_layers=problem.space.protected_layers,
    )
