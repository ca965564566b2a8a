from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from dense_models import dense_model

from nas_llm.config import LatencySection
from nas_llm.errors import ConfigError, RunError
from nas_llm.evaluation import (
    TimedPass,
    device_name,
    interleaved_seconds,
    latency_table,
    measure_latency_table,
    read_latency_table,
)
from nas_llm.models import DenseModel, load_model
from nas_llm.space import Genome, LatencyTable
from nas_llm.subnet import build_subnet

CPU = torch.device("cpu")
QUICK = LatencySection(tokens=32, context=32, points=4, repeats=3)


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    return load_model("tiny-llama")


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_measured_table_covers_the_model_and_never_falls(dense: DenseModel, phase: str) -> None:
    settings = QUICK.model_copy(update={"phase": phase})
    table = measure_latency_table(dense, settings, ffn_multiple=16, device=CPU, dtype=torch.float32)
    shape = dense.architecture
    assert table.constant > 0.0
    assert table.kv_groups == (1, 2, 3)
    assert (table.ffn_channels[0], table.ffn_channels[-1]) == (16, shape.intermediate_size)
    assert len(table.ffn_channels) == 4
    assert all(size % 16 == 0 for size in table.ffn_channels)
    for seconds in (table.attention, table.ffn):
        assert all(np.diff(seconds) >= 0.0)
        assert 0.0 <= seconds[-1] < 1.0
    assert table.attention[-1] > 0.0
    assert table.settings["phase"] == phase
    assert table.device == device_name(CPU)


@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
def test_heads_of_several_widths_are_timed_for_masks_inside_them(dense: DenseModel, mode: str) -> None:
    layout = dense.architecture.attention_layout(mode)
    table = measure_latency_table(dense, QUICK, ffn_multiple=16, layout=layout, device=CPU, dtype=torch.float32)
    assert (table.head_widths[0], table.head_widths[-1]) == (2, dense.architecture.head_dim)
    assert len(table.heads) == len(layout.axes)
    assert all((np.diff(seconds) >= 0.0).all() for seconds in table.heads)
    whole = Genome.dense(dense.architecture, layout)
    assert table(whole) == pytest.approx(table(Genome.dense(dense.architecture)))
    assert LatencyTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


@pytest.mark.parametrize("case", ["opt", "opt-post-norm", "llama-mha-biases"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_every_family_can_be_timed(case: str, phase: str) -> None:
    other = dense_model(case)
    settings = QUICK.model_copy(update={"phase": phase})
    table = measure_latency_table(other, settings, ffn_multiple=16, device=CPU, dtype=torch.float32)
    assert len(table.kv_groups) == min(4, other.architecture.num_kv_heads)
    assert table(Genome.dense(other.architecture)) > table.constant


def find(dense: DenseModel, folder: Path, settings: LatencySection) -> tuple[LatencyTable, list[str]]:
    said: list[str] = []
    table = latency_table(
        dense,
        settings,
        ffn_multiple=16,
        device=CPU,
        dtype=torch.float32,
        cache_dir=folder,
        on_start=said.append,
    )
    return table, said


def test_a_table_is_measured_once_and_again_for_other_settings(dense: DenseModel, tmp_path: Path) -> None:
    table, said = find(dense, tmp_path, QUICK)
    assert len(said) == 1
    assert "prefill at 32 tokens, batch 1, float32, on " in said[0]
    assert find(dense, tmp_path, QUICK) == (table, [])
    # What does not bear on a prefill makes no other table.
    assert find(dense, tmp_path, QUICK.model_copy(update={"context": 8}))[1] == []
    assert len(find(dense, tmp_path, QUICK.model_copy(update={"batch": 2}))[1]) == 1
    assert len(list(tmp_path.iterdir())) == 2
    for path in tmp_path.iterdir():
        path.write_text("{}", encoding="utf-8")
    assert len(find(dense, tmp_path, QUICK)[1]) == 1


def test_the_number_of_threads_is_as_it_was(dense: DenseModel, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    table, _ = find(dense, tmp_path, QUICK.model_copy(update={"threads": before + 1, "points": 2, "repeats": 1}))
    assert table.settings["threads"] == before + 1
    assert torch.get_num_threads() == before


def test_a_decoded_token_sees_the_cache_and_leaves_it_as_it_was(dense: DenseModel) -> None:
    model = build_subnet(dense, Genome.dense(dense.architecture)).float()
    run = TimedPass(model, LatencySection(phase="decode", context=24))
    seen: list[int] = []
    handle = model.lm_head.register_forward_hook(
        lambda module, inputs, output: seen.append(run._inputs["past_key_values"].get_seq_length())
    )
    assert all(run() > 0.0 for _ in range(3))
    handle.remove()
    assert seen == [25, 25, 25]
    assert run._inputs["past_key_values"].get_seq_length() == 24


def test_seconds_are_first_quartiles_of_rounds_in_turns() -> None:
    order: list[str] = []

    def clock(name: str, readings: list[float]) -> float:
        order.append(name)
        return readings[order.count(name) - 1]

    first, second = [9.0, 9.0, 5.0, 1.0, 2.0, 3.0, 4.0], [9.0, 9.0, 50.0, 10.0, 20.0, 30.0, 40.0]
    done: list[int] = []
    found = interleaved_seconds(
        [lambda: clock("a", first), lambda: clock("b", second)], repeats=5, on_round=done.append
    )
    assert found.tolist() == [2.0, 20.0]
    assert order == ["a", "b"] * 7
    assert done == [1, 2, 3, 4, 5]


def test_what_cannot_be_timed_or_read_is_one_clear_line(dense: DenseModel, tmp_path: Path) -> None:
    limit = dense.architecture.max_positions
    with pytest.raises(ConfigError, match=rf"latency.tokens = {limit + 1} takes .* the model has {limit}; lower it"):
        find(dense, tmp_path, QUICK.model_copy(update={"tokens": limit + 1}))
    with pytest.raises(ConfigError, match=rf"latency.context = {limit} takes {limit + 1} positions"):
        find(dense, tmp_path, QUICK.model_copy(update={"phase": "decode", "context": limit}))
    path = tmp_path / "latency.json"
    path.write_text(json.dumps({"constant": 1}), encoding="utf-8")
    with pytest.raises(RunError, match=r"latency\.json is damaged and cannot be read: not a latency table"):
        read_latency_table(path)
