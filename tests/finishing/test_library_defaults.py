"""The library without settings does what the command does without options, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from whole_fronts import make_run

import nas_llm
from nas_llm.calibration import calibrate
from nas_llm.data import WindowSet
from nas_llm.events import ignore
from nas_llm.models import DenseModel
from nas_llm.reconstruction import BlockReconstructor, SequentialReconstructor, admm
from nas_llm.session import Prepared, reopen
from nas_llm.space import Genome
from nas_llm.subnet import BlockEdit, build_subnet
from nas_llm.workflow import Run, export_points

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "made-up")


@pytest.fixture(scope="module")
def prepared(run: Run) -> Prepared:
    return reopen(run, on_event=ignore)


def sequential(dense: DenseModel, windows: WindowSet, genome: Genome) -> BlockEdit:
    return SequentialReconstructor(dense, windows, device=CPU).reconstruct(genome).edit


def block_by_block(dense: DenseModel, windows: WindowSet, genome: Genome) -> BlockEdit:
    blocks = BlockReconstructor(dense, calibrate(dense, windows, device=CPU), device=CPU)
    return lambda layer, sliced: blocks.refit(layer, sliced, genome.attn_mask[layer], genome.mlp_mask[layer])


def iterated(dense: DenseModel, windows: WindowSet, genome: Genome) -> BlockEdit:
    blocks = BlockReconstructor(dense, calibrate(dense, windows, device=CPU), solve=admm, device=CPU)
    return lambda layer, sliced: blocks.refit(layer, sliced, genome.attn_mask[layer], genome.mlp_mask[layer])


@pytest.mark.parametrize(
    ("method", "finish"), [(None, sequential), ("closed_form", block_by_block), ("admm", iterated)]
)
def test_a_library_call_without_settings_is_the_command_without_options(
    run: Run,
    prepared: Prepared,
    tmp_path: Path,
    method: str | None,
    finish: Callable[[DenseModel, WindowSet, Genome], BlockEdit],
) -> None:
    point = run.front.points[6]
    [record] = export_points(run, [point], out=tmp_path, method=method)
    edit = finish(prepared.dense, prepared.splits.finish, point.genome)
    wanted = build_subnet(prepared.dense, point.genome, edit=edit).state_dict()
    found = nas_llm.load(record.path)[0].state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
