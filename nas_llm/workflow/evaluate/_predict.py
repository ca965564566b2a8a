"""What was predicted of a model from its genome, to be shown beside what is measured."""

from __future__ import annotations

import torch

from nas_llm.cache import cache_dir
from nas_llm.config import LatencySection, WorkloadSection
from nas_llm.evaluation import PredictionScore, workload_tables
from nas_llm.events import EventHandler, StageAdvanced, StageFinished, StageStarted
from nas_llm.models import DenseModel
from nas_llm.settings import SpaceDefaults
from nas_llm.space import AttentionLayout, CostModel, Genome
from nas_llm.workloads import WorkloadPredictor


class Predictions:
    """Predicts what subnets of one dense model take for a workload, where they are measured.

    Args:
        dense: The model.
        workload: What they do.
        latency: How times are measured.
        ffn_multiple: What kept FFN channels are a multiple of.
        layout: Of the subnets' attention masks.
        device: Where.
        dtype: Type of the weights.
        on_event: Told what happens.

    Raises:
        ConfigError: If the workload is longer than the model's positions.
    """

    def __init__(
        self,
        dense: DenseModel,
        workload: WorkloadSection,
        *,
        latency: LatencySection,
        ffn_multiple: int = SpaceDefaults.ffn_multiple,
        layout: AttentionLayout | None = None,
        device: torch.device,
        dtype: torch.dtype,
        on_event: EventHandler,
    ) -> None:
        stage = f"workload {workload.name}"
        # As the models are measured, whatever the workload says of threads and type.
        here = workload.model_copy(update={"threads": None, "dtype": "auto"})
        tables = workload_tables(
            dense,
            here,
            points=latency.points,
            repeats=latency.repeats,
            ffn_multiple=ffn_multiple,
            layout=layout,
            device=device,
            dtype=dtype,
            cache_dir=cache_dir() / "latency",
            on_start=lambda detail: on_event(StageStarted(stage, detail, latency.repeats)),
            on_round=lambda done: on_event(StageAdvanced(stage, done)),
        )
        on_event(StageFinished(stage, f"times of {tables.device}"))
        self._predictor = WorkloadPredictor(here.resolved(str(dtype).removeprefix("torch.")), tables)
        self._cost_model = CostModel(dense.architecture)
        self._dense = Genome.dense(dense.architecture, layout)

    def of(self, genome: Genome | None) -> PredictionScore | None:
        """The prediction for a subnet; None where there are no times for it: other sizes, or heads cut otherwise.

        Args:
            genome: The subnet; None = the dense model.
        """
        genome = self._dense if genome is None else genome
        if not genome.fits(self._cost_model.architecture) or genome.layout.axes not in ((), self._dense.layout.axes):
            return None
        memory = self._predictor.memory(genome, self._cost_model(genome))
        return PredictionScore(
            workload=self._predictor.workload.name,
            seconds=self._predictor.seconds(genome),
            peak_bytes=memory.total,
            kv_cache_bytes=memory.kv_cache,
        )
