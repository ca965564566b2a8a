from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.errors import SpaceError
from nas_llm.space import Architecture, CostModel, Genome, LatencyTable


@st.composite
def tables(draw: st.DrawFn) -> LatencyTable:
    """Tables of a model with 4 KV groups and 24 FFN channels."""
    rising = st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).map(sorted)
    return LatencyTable(
        constant=draw(st.floats(0.0, 1.0)),
        kv_groups=(1, draw(st.sampled_from([2, 3])), 4),
        attention=tuple(draw(rising)),
        ffn_channels=(4, draw(st.sampled_from([8, 16])), 24),
        ffn=tuple(draw(rising)),
        settings={"device": "a clock"},
    )


def a_table(**changed: Any) -> LatencyTable:
    numbers: dict[str, Any] = {
        "constant": 1.0,
        "kv_groups": (1, 2),
        "attention": (0.5, 0.75),
        "ffn_channels": (4, 12, 16),
        "ffn": (0.25, 0.5, 0.625),
        "settings": {"device": "a clock"},
    }
    return LatencyTable(**{**numbers, **changed})


def genome(seed: int) -> Genome:
    rng = np.random.default_rng(seed)
    attn = rng.random((5, 4)) < rng.random((5, 1))
    channels = rng.integers(0, 7, 5) * 4
    return Genome(attn, np.arange(24) < channels[:, None])


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 1000))
def test_a_prediction_is_the_sum_of_its_parts(table: LatencyTable, seed: int) -> None:
    subnet, total = genome(seed), table.constant
    for groups, channels in zip(subnet.kv_groups.tolist(), subnet.ffn_channels.tolist(), strict=True):
        for count, sizes, seconds in (
            (groups, table.kv_groups, table.attention),
            (channels, table.ffn_channels, table.ffn),
        ):
            if count:
                upper = next(place for place, size in enumerate(sizes) if size >= count)
                lower = max(0, upper - 1)
                share = (count - sizes[lower]) / (sizes[upper] - sizes[lower]) if upper else 0.0
                total += seconds[lower] + share * (seconds[upper] - seconds[lower])
    assert table(subnet) == pytest.approx(total, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(0, 1000))
def test_no_unit_makes_a_model_faster(table: LatencyTable, seed: int) -> None:
    subnet = genome(seed)
    before = table(subnet)
    for layer in range(5):
        wider = min(24, int(subnet.ffn_channels[layer]) + 4)
        assert table(subnet.with_rows(mlp=[(layer, np.arange(24) < wider)])) >= before - 1e-12
        deeper = min(4, int(subnet.kv_groups[layer]) + 1)
        assert table(subnet.with_rows(attn=[(layer, np.arange(4) < deeper)])) >= before - 1e-12


@settings(max_examples=20, deadline=None)
@given(tables())
def test_a_table_survives_json_and_is_identified_by_its_numbers(table: LatencyTable) -> None:
    again = LatencyTable.from_dict(table.to_dict())
    assert again == table
    assert again.digest() == table.digest()
    assert LatencyTable.from_dict({**table.to_dict(), "constant": 2.0}).digest() != table.digest()


def test_the_cost_model_adds_the_prediction_and_prices_units_by_it(architecture: Architecture) -> None:
    table, plain = a_table(), CostModel(architecture, sequence_length=16)
    timed = CostModel(architecture, sequence_length=16, latency=table)
    dense = Genome.dense(architecture)
    assert timed.dense.latency == pytest.approx(1.0 + 3 * (0.75 + 0.625))
    small = dense.with_rows(mlp=[(0, np.arange(16) < 8), (1, np.arange(16) < 0)])
    assert timed(small).latency == pytest.approx(1.0 + 3 * 0.75 + 0.375 + 0.625)
    assert plain(small).latency is None
    assert plain(small).params == timed(small).params
    assert timed.unit_costs("latency") == pytest.approx((0.25, 0.375 / 12))
    assert timed.unit_costs("kv_cache_bytes") == (2 * 2 * architecture.head_dim, 0.0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"attention": (0.5,)}, "attention needs one time for each"),
        ({"kv_groups": (0, 2)}, "ascending sizes"),
        ({"ffn": (0.5, 0.4, 0.6)}, "times of ffn must be finite, at least 0 and never falling"),
        ({"ffn": (0.5, 0.6, float("nan"))}, "times of ffn"),
        ({"constant": -1.0}, "constant must be finite"),
    ],
)
def test_numbers_that_are_no_table_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        a_table(**changed)
    with pytest.raises(SpaceError, match="not a latency table"):
        LatencyTable.from_dict({"constant": 1.0})


def test_a_table_of_another_model_is_refused(make_architecture: Any) -> None:
    with pytest.raises(SpaceError, match="goes up to 2 KV groups and 16 FFN channels, the model has 4 and 16"):
        CostModel(make_architecture(num_kv_heads=4), sequence_length=16, latency=a_table())
