"""From a problem definition to everything a search needs: model, text, scores, space, evaluators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from nas_llm.cache import cache_dir
from nas_llm.calibration import Calibration, calibrate
from nas_llm.config import Problem
from nas_llm.data import Splits, WindowSet, build_splits, cached_self_texts, packaged_sample, read_texts
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.models import DenseModel, load_model, on_device, resolve_device, resolve_dtype
from nas_llm.reconstruction import BlockReconstructor
from nas_llm.search import CostConstraints, check_feasible
from nas_llm.space import CostModel, SearchSpace
from nas_llm.subnet import PopulationEvaluator


class Stopped(Exception):
    """Somebody asked to stop before there was anything to save."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A problem with its model, text and calibration loaded.

    Attributes:
        problem: The definition.
        dense: The model.
        device: Where candidates are evaluated.
        dtype: Their arithmetic.
        splits: Calibration, fitness and held-out windows.
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

    def evaluator(self, windows: WindowSet, *, metric: str, weights: str | None = None) -> PopulationEvaluator:
        """An evaluator on some windows.

        Args:
            windows: The text.
            metric: ``perplexity`` or ``kl``.
            weights: ``inherited`` or ``reconstructed``; default: what the problem's fitness uses.
        """
        reconstructor = None
        if (weights or self.problem.fitness.weights) == "reconstructed":
            # float32 is enough to rank candidates; finished models are solved in float64.
            reconstructor = self.reconstructor(dtype=torch.float32)
        return PopulationEvaluator(
            self.dense,
            windows,
            metric=metric,
            device=self.device,
            dtype=self.dtype,
            reconstructor=reconstructor,
        )

    def reconstructor(self, *, dtype: torch.dtype = torch.float64, residuals: bool = False) -> BlockReconstructor:
        """The closed-form reconstruction that the problem asks for."""
        return BlockReconstructor(
            self.dense,
            self.calibration,
            damping=self.problem.reconstruction.damping,
            device=self.device,
            dtype=dtype,
            residuals=residuals,
        )


def prepare(
    problem: Problem,
    *,
    base_dir: Path,
    on_event: EventHandler,
    should_stop: Callable[[], bool] = lambda: False,
) -> Prepared:
    """Load the model, cut the text into splits, calibrate.

    What is cheap to check is checked first. Converted models, sampled text and calibrations are kept in the cache
    folder and found again.

    Args:
        problem: The definition.
        base_dir: Folder that its relative paths start from.
        on_event: Told what happens.
        should_stop: Polled between steps.

    Raises:
        NasLlmError: If any part of the definition cannot be met.
        Stopped: If ``should_stop`` said so.
    """

    def checkpoint() -> None:
        if should_stop():
            raise Stopped

    on_event(StageStarted("model", problem.model.source))
    device = resolve_device(problem.model.device)
    dense = load_model(problem.model.source, revision=problem.model.revision)
    architecture = dense.architecture
    space = SearchSpace(
        architecture,
        ffn_multiple=problem.space.ffn_multiple,
        attn_ratio=problem.space.attn_ratio,
        mlp_ratio=problem.space.mlp_ratio,
        min_attn_layers=problem.space.min_attn_layers,
        min_mlp_layers=problem.space.min_mlp_layers,
        protected_layers=problem.space.protected_layers,
    )
    cost_model = CostModel(architecture, sequence_length=problem.sequence_length)
    check_feasible(space, cost_model, CostConstraints(problem.constraints))
    on_event(
        StageFinished(
            "model",
            f"{architecture.num_layers} layers, {cost_model.dense.params / 1e6:.1f} M parameters, of which "
            f"{cost_model.dense.block_params / 1e6:.1f} M in decoder blocks",
        )
    )
    checkpoint()

    on_event(StageStarted("data"))
    splits = build_splits(
        problem.data,
        tokenizer=dense.tokenizer,
        self_texts=lambda tokens: _self_texts(dense, problem, tokens, device, on_event),
        base_dir=base_dir,
    )
    sizes = ", ".join(
        f"{windows.name.replace('_', '-')} {windows.num_tokens:,}"
        for windows in (splits.calibration, splits.fitness, splits.held_out)
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
        dtype=resolve_dtype(problem.model.dtype, device),
        splits=splits,
        calibration=calibration,
        space=space,
        cost_model=cost_model,
    )


def _self_texts(
    dense: DenseModel, problem: Problem, tokens: int, device: torch.device, on_event: EventHandler
) -> list[str]:
    """The dense model's own text: the sample that ships with the package if it is long enough, else sampled now."""
    settings = problem.data.self_sample
    shipped = packaged_sample(dense.sample) if dense.sample else None
    if shipped is not None and settings == type(settings)():
        texts = read_texts(shipped)
        if sum(len(ids) for ids in dense.tokenizer(texts, add_special_tokens=False)["input_ids"]) >= tokens:
            return texts
    on_event(StageStarted("sampling", f"{tokens:,} tokens of the model's own text; kept for later runs", tokens))
    model = on_device(dense.model, device)
    try:
        texts = cached_self_texts(
            model,
            dense.tokenizer,
            identity=dense.revision,
            settings=settings,
            min_tokens=tokens,
            cache_dir=cache_dir() / "self",
            on_progress=lambda done: on_event(StageAdvanced("sampling", min(done, tokens))),
        )
    finally:
        on_device(model, torch.device("cpu"))
    on_event(StageFinished("sampling"))
    return texts
