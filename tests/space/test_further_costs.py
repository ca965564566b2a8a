"""Costs that the package does not compute itself, in the cost model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_search import architecture

from nas_llm.config import ConstraintSection
from nas_llm.errors import SpaceError
from nas_llm.space import COST_NAMES, Architecture, Cost, CostConstraints, CostModel, CostObjective, Genome


class Energy(CostObjective):
    """Every sublayer has to be woken up: no sum over units."""

    name: ClassVar[str] = "energy"
    unit: ClassVar[str] = "mJ"

    def __call__(self, genome: Genome) -> float:
        awake = np.count_nonzero(genome.kv_groups) + np.count_nonzero(genome.ffn_channels)
        return 5.0 * awake + 3.0 * float(genome.kv_groups.sum()) + 0.25 * float(genome.ffn_channels.sum())


def additive(group: float, channel: float) -> type[CostObjective]:
    class Sum(CostObjective):
        name: ClassVar[str] = "sum"
        additive: ClassVar[bool] = True

        def __call__(self, genome: Genome) -> float:
            return 7.0 + group * float(genome.kv_groups.sum()) + channel * float(genome.ffn_channels.sum())

    return Sum


def genome(sizes: Architecture, seed: int = 0) -> Genome:
    rng = np.random.default_rng(seed)
    return Genome(
        rng.random((sizes.num_layers, sizes.num_kv_heads)) < 0.6,
        rng.random((sizes.num_layers, sizes.intermediate_size)) < 0.6,
    )


def test_a_cost_has_further_ones_by_name() -> None:
    sizes = architecture()
    plain, model = CostModel(sizes, sequence_length=16), CostModel(sizes, sequence_length=16, further=[Energy])
    subnet = genome(sizes)
    cost = model(subnet)
    assert cost.further == {"energy": Energy(sizes)(subnet)}
    assert (cost.value("energy"), cost.optional) == (cost.further["energy"], cost.further)
    for name in COST_NAMES:
        assert getattr(cost, name) == getattr(plain(subnet), name)
    assert model.dense.value("energy") == Energy(sizes)(Genome.dense(sizes))
    assert plain(subnet).further == {}
    assert hash(cost) == hash(plain(subnet))
    assert cost != plain(subnet)


def test_costs_that_are_not_known_are_named() -> None:
    cost = Cost(1, 2, 3, 4, 0.5, further={"energy": 6.0})
    assert [cost.value(name) for name in ("params", "inheriting_ratio", "energy")] == [2.0, 0.5, 6.0]
    for name in ("latency", "enrgy", "further"):
        with pytest.raises(SpaceError, match=f"the cost '{name}' is not known here; known are block_params, .*energy"):
            cost.value(name)


def test_objects_work_as_well_as_classes() -> None:
    sizes = architecture()
    made = Energy(sizes)
    assert CostModel(sizes, sequence_length=16, further=[made]).dense.further == {"energy": made(Genome.dense(sizes))}


@settings(max_examples=40)
@given(
    st.integers(0, 1000).map(float),
    st.integers(0, 1000).map(float),
    st.sampled_from([(6, 3, 64), (1, 1, 1), (2, 1, 8), (3, 6, 5)]),
)
def test_unit_costs_of_a_sum_are_exact(group: float, channel: float, shape: tuple[int, int, int]) -> None:
    layers, heads, width = shape
    sizes = architecture(num_layers=layers, num_kv_heads=heads, num_heads=heads, intermediate_size=width)
    model = CostModel(sizes, sequence_length=16, further=[additive(group, channel)])
    assert model.unit_costs("sum") == (group, channel)


def test_other_unit_costs_are_mean_slopes() -> None:
    sizes = architecture()
    model = CostModel(sizes, sequence_length=16, further=[Energy])
    assert model.unit_costs("energy") == pytest.approx((3.0, 0.25))
    # A sublayer of one unit goes with it, so its waking up counts.
    thin = architecture(num_kv_heads=1, num_heads=6)
    assert CostModel(thin, sequence_length=16, further=[Energy]).unit_costs("energy") == pytest.approx((8.0, 0.25))


def test_units_never_cost_less_than_nothing() -> None:
    class Rare(CostObjective):
        name: ClassVar[str] = "rare"

        def __call__(self, genome: Genome) -> float:
            return 1e6 - float(genome.kv_groups.sum())

    model = CostModel(architecture(), sequence_length=16, further=[Rare])
    assert model.unit_costs("rare") == (0.0, 0.0)


def test_each_genome_is_asked_for_once() -> None:
    asked: list[str] = []

    class Slow(CostObjective):
        name: ClassVar[str] = "slow"

        def __call__(self, genome: Genome) -> float:
            asked.append(genome.digest())
            return 1.0

    sizes = architecture()
    model = CostModel(sizes, sequence_length=16, further=[Slow])
    for _ in range(3):
        model(genome(sizes))
    assert asked == [Genome.dense(sizes).digest(), genome(sizes).digest()]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, r"objective 'mine' gives 0 for the dense model; it must be above 0"),
        (-2.5, r"objective 'mine' gives -2.5 for the dense model; it must be above 0"),
        (math.nan, r"objective 'mine' gives nan for genome \w{8}; it must be a finite number"),
        (math.inf, r"objective 'mine' gives inf for genome \w{8}; it must be a finite number"),
        ("many", r"objective 'mine' fails for genome \w{8}: ValueError: could not convert"),
        (None, r"objective 'mine' fails for genome \w{8}: TypeError: "),
    ],
)
def test_values_that_are_no_costs_are_refused(value: Any, said: str) -> None:
    class Mine(CostObjective):
        name: ClassVar[str] = "mine"

        def __call__(self, genome: Genome) -> float:
            return value  # type: ignore[no-any-return]

    with pytest.raises(SpaceError, match=said):
        CostModel(architecture(), sequence_length=16, further=[Mine])


def test_faults_of_others_code_are_told_in_one_line() -> None:
    class Fails(CostObjective):
        name: ClassVar[str] = "fails"

        def __call__(self, genome: Genome) -> float:
            if genome.kv_groups.sum() < 10:
                raise KeyError("no such chip")
            return 1.0

    class Unmade(Fails):
        name: ClassVar[str] = "unmade"

        def __init__(self, architecture: Architecture) -> None:
            raise RuntimeError("no meter\nat hand")

    sizes = architecture()
    model = CostModel(sizes, sequence_length=16, further=[Fails])
    with pytest.raises(SpaceError, match=r"objective 'fails' fails for genome \w{8}: KeyError: 'no such chip'"):
        model(Genome(np.zeros((6, 3), dtype=bool), np.zeros((6, 64), dtype=bool)))
    with pytest.raises(SpaceError, match=r"objective 'unmade' cannot be made: RuntimeError: no meter$"):
        CostModel(sizes, sequence_length=16, further=[Unmade])


def test_what_is_no_objective_is_refused() -> None:
    class Nameless(CostObjective):
        def __call__(self, genome: Genome) -> float:
            return 1.0

    class Latency(Nameless):
        name: ClassVar[str] = "latency"

    sizes = architecture()
    for further, said in (
        ([Nameless], "objective Nameless has no name; give the class an attribute"),
        ([Nameless(sizes)], "objective Nameless has no name; give the class an attribute"),
        ([Latency], "objective Latency has the name 'latency', which the package uses itself"),
        ([Energy, Energy(sizes)], "further costs need different names, got energy, energy"),
    ):
        with pytest.raises(SpaceError, match=said):
            CostModel(sizes, sequence_length=16, further=further)  # type: ignore[arg-type]


def test_constraints_are_numbers_or_a_section() -> None:
    section = ConstraintSection(min_ratio=0.4, max_params=5000)
    for given_bounds in (
        CostConstraints(section),
        CostConstraints(min_ratio=0.4, max_params=5000),
        CostConstraints(**section.model_dump()),
    ):
        assert given_bounds.bounds == (("min_ratio", "inheriting_ratio", 0.4), ("max_params", "params", 5000.0))
    assert CostConstraints(section, min_ratio=0.5).bounds[0] == ("min_ratio", "inheriting_ratio", 0.5)
    assert CostConstraints().bounds == ()
