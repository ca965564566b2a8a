from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_llm.config import LatencySection, WorkloadSection
from nas_llm.errors import ConfigError
from nas_llm.evaluation import _latency_table, measure_latency_table, workload_tables
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    return load_model("tiny-llama")


def test_tables_are_measured_once_and_stand_at_both_ends_of_the_answer(dense: DenseModel, tmp_path: Path) -> None:
    measured: list[str] = []

    def tables(new_tokens: int) -> None:
        workload = WorkloadSection(name="chat", prompt=24, new_tokens=new_tokens, batch=2, threads=1)
        found = workload_tables(
            dense,
            workload,
            points=2,
            repeats=1,
            ffn_multiple=16,
            device=CPU,
            dtype=torch.float32,
            cache_dir=tmp_path,
            on_start=measured.append,
        )
        assert found.prefill.settings["tokens"] == 24
        assert [table.settings["context"] for table in found.decode] == list(dict.fromkeys([24, 23 + new_tokens]))
        assert all(table.settings["batch"] == 2 for table in (found.prefill, *found.decode))
        assert found(Genome.dense(dense.architecture)) > found.prefill(Genome.dense(dense.architecture)) > 0.0

    tables(8)
    assert [line.partition(",")[0] for line in measured] == [
        "prefill at 24 tokens",
        "decode at 24 tokens",
        "decode at 31 tokens",
    ]
    tables(8)
    tables(1)
    assert len(measured) == 3
    with pytest.raises(
        ConfigError, match="workload chat takes 24 prompt and 600 new tokens, the model has 512 positions"
    ):
        tables(600)


def test_an_anchored_table_adds_up_to_the_whole_model(dense: DenseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(passes: Sequence[Callable[[], float]], **_: object) -> np.ndarray:
        # Without layers 1 s, with more of them more; the whole model, which comes last, 100 s.
        return np.array([1.0, *np.linspace(1.0, 2.0, len(passes) - 2), 100.0])

    monkeypatch.setattr(_latency_table, "interleaved_seconds", clock)
    settings = LatencySection(tokens=8, points=3, repeats=1, threads=1)
    table = measure_latency_table(dense, settings, ffn_multiple=16, device=CPU, dtype=torch.float32, anchored=True)
    assert table(Genome.dense(dense.architecture)) == pytest.approx(100.0)
    assert table.constant == 1.0
    assert table.settings["anchored"] is True
