"""What every family has to do, one line of :mod:`dense_models` each: whole, sliced, refitted, exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dense_models import CASE_MODES, DENSE_CASES, SLIDING_CASES, dense_model, random_genome, random_windows
from exported import provenance

from nas_llm.export import export_hf
from nas_llm.models import DenseModel
from nas_llm.reconstruction import SequentialReconstructor
from nas_llm.space import Genome
from nas_llm.subnet import build_subnet, check_family

CPU = torch.device("cpu")
IDS = torch.from_numpy(random_windows().tokens.copy())
STRANGER = Path(__file__).parents[1] / "support" / "family_exports.py"


def without(dense: DenseModel, layers: tuple[int, ...]) -> Genome:
    """About 60 % of everything, without the attention of some layers."""
    genome = random_genome(dense, 1)
    attn = genome.attn_mask.copy()
    attn[:, 0] = True
    attn[list(layers)] = False
    return Genome(attn, genome.mlp_mask)


WHOLE_CASES = (*DENSE_CASES, *SLIDING_CASES)
# Of the first layers, of the first layer of full attention where windows slide, and of the last.
ABSENT = {"first": (0,), "first-two": (0, 1), "second": (1,), "last": (4,)}


@pytest.fixture(scope="module")
def subnets() -> dict[str, Any]:
    found = {}
    for case in WHOLE_CASES:
        dense = dense_model(case)
        found[case] = dense, random_genome(dense, 0)
        for name, layers in ABSENT.items():
            found[f"{case}-{name}"] = dense, without(dense, layers)
    return found


@pytest.fixture(scope="module")
def answers(subnets: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All exports, used in one process that has no nas_llm."""
    folder = tmp_path_factory.mktemp("families")
    for name, (dense, genome) in subnets.items():
        subnet = build_subnet(dense, genome)
        export_hf(subnet, dense, folder / "exports" / name, provenance=provenance(dense, genome))
    done = subprocess.run(
        [sys.executable, str(STRANGER), str(folder / "exports"), json.dumps(IDS.tolist()), str(folder / "results")],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "HF_MODULES_CACHE": str(folder / "modules")},
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = torch.load(folder / "results" / "found.pt")
    return found


NAMES = [f"{case}{more}" for case in WHOLE_CASES for more in ("", *(f"-{name}" for name in ABSENT))]


@pytest.mark.parametrize("case", DENSE_CASES)
def test_blocks_one_by_one_are_the_model(case: str) -> None:
    check_family(dense_model(case))


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_the_subnet_bit_for_bit(name: str, subnets: dict[str, Any], answers: dict[str, Any]) -> None:
    found = answers[name]
    assert torch.equal(found["logits"], build_subnet(*subnets[name])(IDS).logits)
    assert found["same"]


@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_cache_and_left_padding_give_the_same_text(name: str, answers: dict[str, Any]) -> None:
    found = answers[name]
    assert len(found["none"][0]) == 16
    for kind in ("dynamic", "static", "padded"):
        assert torch.equal(found[kind], found["none"]), kind


@pytest.mark.parametrize("name", NAMES)
def test_a_cache_alone_says_how_far_the_text_has_come(name: str, answers: dict[str, Any]) -> None:
    found = answers[name]
    assert (found["stepwise"] - found["logits"]).abs().max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_of_an_export_trains(name: str, answers: dict[str, Any]) -> None:
    assert answers[name]["without_gradient"] == []


@pytest.mark.parametrize(("case", "mode"), CASE_MODES)
def test_a_sequential_finish_comes_nearer_to_the_dense_model(case: str, mode: str) -> None:
    dense = dense_model(case)
    genome = random_genome(dense, 1, mode)
    windows = random_windows(count=64)
    (finished,) = SequentialReconstructor(dense, windows, device=CPU).reconstruct_many([genome])
    ids = torch.from_numpy(windows.tokens.copy())
    with torch.inference_mode():
        wanted = dense.model(ids).logits.log_softmax(-1)
        before, after = (
            float((wanted.exp() * (wanted - model(ids).logits.log_softmax(-1))).sum(-1).mean())
            for model in (build_subnet(dense, genome), build_subnet(dense, genome, edit=finished.edit))
        )
    assert after < 0.9 * before
    assert np.isfinite(after)
