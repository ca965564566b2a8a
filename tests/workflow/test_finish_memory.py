from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import psutil
import torch
from torch import nn

from nas_llm.finishing._memory import FinishMemory, _touch
from nas_llm.models import DenseModel

MEMORY = FinishMemory(room=1000, hidden=70, results=100, moments=40, shared=160, device_room=None)


def test_as_many_points_as_fit_and_at_least_one() -> None:
    assert MEMORY.points == 6
    assert replace(MEMORY, room=1001 - 1 - 140).points == 5
    assert replace(MEMORY, room=-500).points == 1


def test_hidden_states_get_what_is_left() -> None:
    assert MEMORY.budget(1) == 1000 - 160 - 140
    assert MEMORY.budget(6) == 0
    assert replace(MEMORY, room=-500).budget(1) == 0


def test_one_point_may_lack_memory() -> None:
    assert MEMORY.lacking == 0
    assert replace(MEMORY, room=250).lacking == 50
    assert replace(MEMORY, room=90, device_room=400).lacking == 10


def test_on_a_gpu_the_sums_are_there_and_the_weights_are_not() -> None:
    on_gpu = replace(MEMORY, device_room=400)
    assert on_gpu.points == 6
    assert replace(on_gpu, room=350).points == 3
    assert on_gpu.budget(3) == 700
    assert on_gpu.device_budget(3) == 400 - 160 - 3 * 40
    assert on_gpu.device_budget(7) == MEMORY.device_budget(1) == 0


def test_weights_of_a_mapped_file_count_before_they_are_read(tmp_path: Path) -> None:
    count = 8_000_000
    path = tmp_path / "weights"
    path.write_bytes(bytes(4 * count))
    module = nn.Module()
    module.weight = nn.Parameter(torch.from_file(str(path), shared=True, size=count), requires_grad=False)
    before = psutil.Process().memory_info().rss
    _touch(cast("DenseModel", SimpleNamespace(model=module)))
    assert psutil.Process().memory_info().rss - before > 0.9 * 4 * count
