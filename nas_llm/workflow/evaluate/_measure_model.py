"""All numbers of one model, and of others beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from nas_llm.data import ReportingText, Splits
from nas_llm.evaluation import (
    MemoryScore,
    ModelRow,
    PredictionScore,
    SpeedScore,
    TaskSuite,
    Times,
    Workload,
    alternating_times,
    check_workload,
    count_block_params,
    count_macs_per_token,
    cuda_memory,
    process_memory,
    saved_memory,
    speed_score,
)
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.space import Genome
from nas_llm.workflow.evaluate._held_out_gap import SplitPerplexities, held_out_gap, split_perplexities
from nas_llm.workflow.evaluate._predict import Predictions
from nas_llm.workflow.evaluate._subjects import Loaded
from nas_llm.workflow.evaluate._task_scores import score_tasks
from nas_llm.workflow.evaluate._text_score import WindowCount, score_text


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured.

    Attributes:
        texts: Texts for perplexity.
        window: Tokens of a window.
        windows: Windows of each text at most; None = as the text says, ``"all"`` = the whole text.
        suite: Tasks.
        latency: Whether models are timed.
        memory: Whether their memory is measured.
        workload: What they are put through for these two.
        predictions: Predicts both; None = nothing is predicted.
        on_event: Told what happens.
    """

    texts: Sequence[ReportingText]
    window: int
    windows: WindowCount
    suite: TaskSuite | None
    latency: bool
    memory: bool
    workload: Workload
    predictions: Predictions | None
    on_event: EventHandler


class ModelMeasure:
    """Measures models by one plan.

    Args:
        plan: What to measure.
        base_params: Block parameters that inheriting ratios are taken against; None = there is no base.
    """

    def __init__(self, plan: Plan, *, base_params: int | None = None) -> None:
        self._plan, self._base_params = plan, base_params
        self._dense: Loaded | None = None
        self._dense_name = ""
        self._dense_times: list[Times] = []
        self._dense_memory: tuple[int, int] | None = None
        self._dense_splits: dict[tuple[str, ...], SplitPerplexities] = {}

    def reference(self, loaded: Loaded, splits: Sequence[Splits] = ()) -> ModelRow:
        """Measure the dense model; those measured after it are compared with it.

        Args:
            loaded: The model; it is kept if models are timed, which takes both at a time.
            splits: Splits of the runs whose points will follow; the first are those of the row.

        Raises:
            ConfigError: If the workload is longer than its positions.
        """
        if self._plan.latency or self._plan.memory:
            check_workload(loaded.model, self._plan.workload)
        self._base_params = count_block_params(loaded.model)
        self._dense_name = loaded.name
        for one in splits:
            self._dense_splits[_key(one)] = split_perplexities(loaded.model, one)
        if self._plan.memory:
            self._dense_memory = self._bytes(loaded)
        if self._plan.latency:
            self._dense = loaded
        row = self._alone(loaded)
        if splits:
            first = self._dense_splits[_key(splits[0])]
            row = replace(row, gap=held_out_gap(first, first))
        return replace(row, memory=self._memory(loaded, self._dense_memory), predicted=self._predicted(None))

    def beside(self, loaded: Loaded, splits: Splits | None = None) -> ModelRow:
        """Measure another model.

        Args:
            loaded: The model.
            splits: Splits of the run that it is a point of.
        """
        row = self._alone(loaded)
        if splits is not None:
            found = split_perplexities(loaded.model, splits)
            row = replace(row, gap=held_out_gap(found, self._dense_splits[_key(splits)]))
        if self._dense is not None:
            dense, own = self._times(self._dense, loaded)
            self._dense_times.append(dense)
            row = replace(row, speed=self._speed(loaded, own, dense))
        predicted = None if loaded.genome is None else self._predicted(loaded.genome)
        memory = self._memory(loaded, self._bytes(loaded) if self._plan.memory else None)
        return replace(row, memory=memory, predicted=predicted)

    def reference_speed(self) -> SpeedScore | None:
        """The dense model's speed over all rounds beside others, or alone where there were none."""
        if self._dense is None:
            return None
        found = self._dense_times or self._times(self._dense)
        times = Times(
            first_token=np.concatenate([one.first_token for one in found]),
            decode=np.concatenate([one.decode for one in found]),
        )
        return self._speed(self._dense, times, times)

    def _alone(self, loaded: Loaded) -> ModelRow:
        model, plan = loaded.model, self._plan
        texts = tuple(
            score_text(loaded, text, window=plan.window, windows=plan.windows, on_event=plan.on_event)
            for text in plan.texts
        )
        block_params = count_block_params(model)
        length = min(plan.window, getattr(model.config, "max_position_embeddings", plan.window))
        return ModelRow(
            name=loaded.name,
            params=sum(parameter.numel() for parameter in model.parameters()),
            block_params=block_params,
            inheriting_ratio=(
                loaded.inheriting_ratio if self._base_params is None else block_params / self._base_params
            ),
            macs_per_token=count_macs_per_token(model, length),
            macs_tokens=length,
            texts=texts,
            tasks=score_tasks(loaded, plan.suite, on_event=plan.on_event),
        )

    def _predicted(self, genome: Genome | None) -> PredictionScore | None:
        return None if self._plan.predictions is None else self._plan.predictions.of(genome)

    def _times(self, *models: Loaded) -> list[Times]:
        plan = self._plan
        stage = f"latency {models[-1].name}"
        beside = f", in turns with {models[0].name}" if len(models) > 1 else ""
        plan.on_event(StageStarted(stage, f"{plan.workload.rounds} rounds{beside}", plan.workload.rounds))
        found = alternating_times(
            [loaded.model for loaded in models],
            plan.workload,
            on_round=lambda done: plan.on_event(StageAdvanced(stage, done)),
        )
        plan.on_event(StageFinished(stage))
        return found

    def _speed(self, loaded: Loaded, own: Times, dense: Times) -> SpeedScore:
        return speed_score(loaded.model, own, dense, workload=self._plan.workload, against=self._dense_name)

    def _bytes(self, loaded: Loaded) -> tuple[int, int]:
        """Peak and cache."""
        model, workload = loaded.model, self._plan.workload
        stage = f"memory {loaded.name}"
        self._plan.on_event(StageStarted(stage))
        if model.device.type == "cuda":
            measured = partial(cuda_memory, model, workload)
        elif loaded.path is None:
            measured = partial(saved_memory, model, workload)
        else:
            measured = partial(process_memory, loaded.path, workload, dtype=model.dtype)
        found = measured()
        self._plan.on_event(StageFinished(stage))
        return found

    def _memory(self, loaded: Loaded, found: tuple[int, int] | None) -> MemoryScore | None:
        if found is None or self._dense_memory is None:
            return None
        return MemoryScore(
            device=loaded.model.device.type,
            dtype=str(loaded.model.dtype).removeprefix("torch."),
            workload=self._plan.workload,
            peak_bytes=found[0],
            kv_cache_bytes=found[1],
            against=self._dense_name,
            peak_ratio=found[0] / self._dense_memory[0],
            kv_cache_ratio=found[1] / max(1, self._dense_memory[1]),
        )


def _key(splits: Splits) -> tuple[str, ...]:
    return splits.finish.digest(), splits.fitness.digest(), splits.held_out.digest()


def free(device: torch.device) -> None:
    """Give memory of models that are gone back to the GPU."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
