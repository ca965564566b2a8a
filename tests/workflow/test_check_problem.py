"""What a problem asks for, without weights: every packaged one, the numbers, the faults."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import torch

from nas_llm.config import list_problems, load_problem
from nas_llm.errors import NasLlmError
from nas_llm.models import known_architecture
from nas_llm.session import search_space
from nas_llm.space import Cost, CostConstraints, CostModel
from nas_llm.workflow import ProblemCheck, check_problem
from nas_llm.workflow.check import measured_rate

SPEED = 1e12


def checked(name: str, *overrides: str) -> ProblemCheck:
    loaded = load_problem(name, overrides=["model.device=cpu", "model.dtype=bfloat16", *overrides])
    return check_problem(loaded, rate=lambda device, dtype: SPEED)


@pytest.mark.parametrize("name", [entry.name for entry in list_problems()])
def test_every_packaged_problem_resolves_offline(name: str) -> None:
    check = checked(name)
    constraints = load_problem(name).problem.constraints
    assert (constraints.min_ratio or 0) <= check.lowest.inheriting_ratio < check.highest.inheriting_ratio
    assert check.highest.inheriting_ratio <= (constraints.max_ratio or 1)
    assert check.memory > 2 * check.dense.params
    assert check.seconds > 0


def test_the_7b_model_of_the_paper_at_80_percent() -> None:
    check = checked("paper/llama-7b-r80")
    assert check.dense.params == 6_738_415_616
    assert 0.79 <= check.lowest.inheriting_ratio < 0.79001
    assert 0.79999 < check.highest.inheriting_ratio <= 0.8
    assert check.disk == pytest.approx(32 * 4 * (4096**2 + 11008**2), rel=1e-3)
    # Weights in bfloat16, hidden states of 128 windows in float32, one block's Gram matrices.
    states, grams = 4 * 128 * 2048 * 4096, 4 * (3 * 4096**2 + 11008**2)
    assert check.memory == 2 * 6_738_415_616 + states + grams
    assert check.candidates == 5000
    macs = (check.lowest.macs_per_token + check.highest.macs_per_token) / 2
    assert check.seconds == pytest.approx(5000 * 5 * 2048 * macs / SPEED, rel=0.02)


def reachable(name: str, *overrides: str) -> Iterator[Cost]:
    """Costs of all totals of a small problem that obey its constraints."""
    problem = load_problem(name, overrides=overrides).problem
    architecture = known_architecture(problem.model.source)
    space, constraints = search_space(problem, architecture), CostConstraints(problem.constraints)
    model = CostModel(architecture, sequence_length=problem.sequence_length)
    layers = architecture.num_layers
    for attention, ffn in product(range(space.min_attn_layers, layers + 1), range(space.min_mlp_layers, layers + 1)):
        for groups in range(attention * space.attn_low[0], attention * space.attn_high[0] + 1):
            low, high = ffn * int(space.mlp_low[0]), ffn * int(space.mlp_high[0])
            for channels in range(low, high + 1, space.ffn_multiple):
                cost = model.from_counts(groups=groups, channels=channels, attention_layers=attention, ffn_layers=ffn)
                if constraints.satisfied(cost):
                    yield cost


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("constraints.min_ratio=0.1",),
        ("constraints.min_ratio=0.79", "constraints.max_ratio=0.8"),
        ("constraints.max_params=500_000",),
    ],
)
def test_the_window_is_that_of_all_totals(overrides: tuple[str, ...]) -> None:
    check = checked("tiny-llama", *overrides)
    ratios = [cost.inheriting_ratio for cost in reachable("tiny-llama", *overrides)]
    # Totals are counted in steps of ffn_multiple there, each 0.0076 of the ratio.
    assert check.lowest.inheriting_ratio == pytest.approx(min(ratios), abs=0.008)
    assert check.highest.inheriting_ratio == pytest.approx(max(ratios), abs=0.008)


def test_a_bound_on_macs_counts_too() -> None:
    check = checked("tiny-llama", "constraints.max_macs_per_token=600_000")
    assert check.highest.macs_per_token <= 600_000 < check.highest.macs_per_token + 2000


def test_the_descent_and_refits_count() -> None:
    plain = checked("tiny-llama", "fitness.weights=inherited")
    assert plain.candidates == 64
    assert checked("tiny-llama").seconds > plain.seconds
    more = checked("tiny-llama", "fitness.weights=inherited", "search.descent.looks=6")
    assert more.candidates > 64
    assert more.seconds > plain.seconds
    assert checked("smollm2-135m-wikitext2").candidates == 120 + 155


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model.source=someone/model"], "the sizes of model 'someone/model' are not known without the network"),
        (
            [
                "data.window=4096",
                "data.calibration.tokens=9000",
                "data.fitness.tokens=9000",
                "data.held_out.tokens=9000",
            ],
            r"data.window \(4096\) is more than the 512 positions of model 'tiny-llama'; lower it",
        ),
        (["constraints.max_ratio=0.01", "constraints.min_ratio=0.01"], "constraints.max_ratio = 0.01 cannot be met"),
        (["space.min_attn_layers=9"], "min_attn_layers must be in 0..6"),
        (["search.algorithm=nsga4"], "search.algorithm 'nsga4' is unknown"),
        (["model.device=cuda"], "asks for CUDA"),
    ],
)
def test_faults_are_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(NasLlmError, match=said) as caught:
        check_problem(load_problem("tiny-llama", overrides=overrides), rate=lambda device, dtype: SPEED)
    assert "\n" not in str(caught.value)


def test_nothing_is_asked_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\nmodel.source = "facebook/opt-125m"\n', encoding="utf-8")
    check = check_problem(load_problem(path), rate=lambda device, dtype: SPEED)
    assert check.dense.params == 125_239_296
    assert check.highest.inheriting_ratio == 1.0


def test_a_rate_is_measured_once() -> None:
    device = torch.device("cpu")
    rate = measured_rate(device, torch.float32)
    assert rate > 1e8
    assert measured_rate(device, torch.float32) == rate
