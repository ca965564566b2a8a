from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nas_llm.errors import SpaceError
from nas_llm.space import Architecture, Genome, SearchSpace

PROPERTY = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def spaces(draw: st.DrawFn, make: Any, *, layers: int = 3, groups: int = 2, channels: int | None = None) -> SearchSpace:
    width = channels or draw(st.sampled_from([5, 6, 8, 16, 20]))
    architecture = make(num_layers=layers, num_heads=groups * 2, num_kv_heads=groups, intermediate_size=width)
    ratios = st.tuples(st.sampled_from([0.1, 0.3, 0.5]), st.sampled_from([0.75, 1.0]))
    try:
        return SearchSpace(
            architecture,
            ffn_multiple=draw(st.sampled_from([1, 2, 4, 5])),
            attn_ratio=draw(ratios),
            mlp_ratio=draw(ratios),
            min_attn_layers=draw(st.none() | st.integers(0, layers)),
            min_mlp_layers=draw(st.none() | st.integers(0, layers)),
            protected_layers=draw(st.sets(st.integers(0, layers - 1), max_size=2)),
        )
    except SpaceError:
        return SearchSpace(architecture, ffn_multiple=1)


@PROPERTY
@given(data=st.data())
def test_align_ffn_is_the_nearest_allowed_count(make_architecture: Any, data: st.DataObject) -> None:
    space = data.draw(spaces(make_architecture))
    layer, count = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 40))
    allowed = space.ffn_counts(layer)
    aligned = space.align_ffn(layer, count)
    assert aligned in allowed
    assert abs(aligned - count) == min(abs(option - count) for option in allowed)


@PROPERTY
@given(data=st.data())
def test_ffn_counts_are_multiples_or_dense_within_bounds(make_architecture: Any, data: st.DataObject) -> None:
    space = data.draw(spaces(make_architecture))
    width = space.architecture.intermediate_size
    for layer in range(3):
        counts = space.ffn_counts(layer)
        assert list(counts) == sorted(set(counts))
        low, high = int(space.mlp_low[layer]), int(space.mlp_high[layer])
        wanted = [n for n in range(low, high + 1) if n % space.ffn_multiple == 0 or n == width]
        assert list(counts) == (wanted or [width])
        if layer in space.protected_layers:
            assert list(counts) == [width]
            assert space.clip_groups(layer, 0) == space.architecture.num_kv_heads


def counted(architecture: Architecture, groups: tuple[int, ...], channels: tuple[int, ...]) -> Genome:
    return Genome(
        np.arange(architecture.num_kv_heads) < np.array(groups)[:, None],
        np.arange(architecture.intermediate_size) < np.array(channels)[:, None],
    )


def inside(space: SearchSpace, groups: tuple[int, ...], channels: tuple[int, ...]) -> bool:
    """The definition of the space, spelled out."""
    a, present = space.architecture, [0, 0]
    for layer, pair in enumerate(zip(groups, channels, strict=True)):
        bounds = ((space.attn_low, space.attn_high, 1), (space.mlp_low, space.mlp_high, space.ffn_multiple))
        dense = (a.num_kv_heads, a.intermediate_size)
        for kind, (count, (low, high, multiple)) in enumerate(zip(pair, bounds, strict=True)):
            present[kind] += count > 0
            if layer in space.protected_layers:
                if count != dense[kind]:
                    return False
            elif count and not (low[layer] <= count <= high[layer] and (count % multiple == 0 or count == dense[kind])):
                return False
    return present[0] >= space.min_attn_layers and present[1] >= space.min_mlp_layers


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_contains_and_extreme_counts_equal_brute_force(make_architecture: Any, data: st.DataObject) -> None:
    space = data.draw(spaces(make_architecture, layers=2, channels=data.draw(st.sampled_from([5, 6, 8]))))
    a = space.architecture
    every = list(
        product(
            product(range(a.num_kv_heads + 1), repeat=2),
            product(range(a.intermediate_size + 1), repeat=2),
        )
    )
    members = [(g, c) for g, c in every if inside(space, g, c)]
    for g, c in every:
        assert space.contains(counted(a, g, c)) == inside(space, g, c)
    for largest, best in ((False, min), (True, max)):
        totals = space.extreme_counts(largest=largest)
        assert totals["groups"] == best(sum(g) for g, _ in members)
        assert totals["channels"] == best(sum(c) for _, c in members)
        assert totals["attention_layers"] == best(sum(n > 0 for n in g) for g, _ in members)
        assert totals["ffn_layers"] == best(sum(n > 0 for n in c) for _, c in members)


def test_violations_name_what_is_wrong(make_architecture: Any) -> None:
    space = SearchSpace(make_architecture(), ffn_multiple=4, attn_ratio=(0.6, 1.0), protected_layers=[0])
    dense = Genome.dense(space.architecture)
    assert space.violations(dense) == []
    assert space.contains(dense)
    removed = dense.with_rows(mlp=[(1, np.zeros(16, bool))])
    assert space.violations(removed) == ["mlp_mask keeps 2 sublayers, at least 3 must stay"]
    assert space.violations(dense.with_rows(attn=[(2, np.array([True, False]))])) == [
        "attn_mask[2] keeps 1 units, allowed are 2..2"
    ]
    assert space.violations(dense.with_rows(mlp=[(2, np.arange(16) < 6)])) == [
        "mlp_mask[2] keeps 6 channels, not a multiple of 4"
    ]
    assert space.violations(dense.with_rows(mlp=[(0, np.arange(16) < 8)])) == [
        "mlp_mask[0] keeps 8 units, allowed are 16..16"
    ]


def test_removal_is_allowed_only_where_said(make_architecture: Any) -> None:
    space = SearchSpace(make_architecture(), ffn_multiple=4, min_mlp_layers=2, protected_layers=[0])
    dense = Genome.dense(space.architecture)
    none = np.zeros(16, bool)
    assert space.contains(dense.with_rows(mlp=[(1, none)]))
    assert not space.contains(dense.with_rows(mlp=[(0, none)]))
    assert not space.contains(dense.with_rows(mlp=[(1, none), (2, none)]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ffn_multiple": 0}, "ffn_multiple"),
        ({"ffn_multiple": 17}, "ffn_multiple"),
        ({"attn_ratio": (0.0, 1.0)}, "attn_ratio"),
        ({"mlp_ratio": (0.9, 0.5)}, "floor"),
        ({"mlp_ratio": (0.51, 0.6), "ffn_multiple": 8}, "multiple of 8"),
        ({"min_attn_layers": 4}, "min_attn_layers"),
        ({"protected_layers": [3]}, r"\[3\]"),
    ],
)
def test_contradictions_are_refused(make_architecture: Any, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        SearchSpace(make_architecture(), **{"ffn_multiple": 4, **arguments})


def test_space_imports_no_torch() -> None:
    code = "import sys, nas_llm.space, nas_llm.search; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
