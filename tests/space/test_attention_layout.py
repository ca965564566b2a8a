"""Masks inside heads: rows that say what they mean, keep heads alike, and count exactly."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import numpy as np
import pytest

from nas_llm.errors import SpaceError
from nas_llm.space import Architecture, AttentionLayout, CostModel, Genome, LatencyTable, SearchSpace, UnitScores

Make = Callable[..., Architecture]


@pytest.fixture
def partial(make_architecture: Make) -> Architecture:
    """Heads of 8 channels, 4 of them turned: two pairs and four single channels."""
    return make_architecture(head_dim=8, rotary_dim=4)


def dense(sizes: Architecture, mode: str) -> Genome:
    return Genome.dense(sizes, sizes.attention_layout(mode))


def test_rows_are_as_long_as_their_units(partial: Architecture, make_architecture: Make) -> None:
    units = {mode: partial.attention_layout(mode).units for mode in ("kv_group", "head_dim", "head_dim_split")}
    assert units == {"kv_group": 2, "head_dim": 2 * 6, "head_dim_split": 2 * (6 + 8)}
    learned = make_architecture(head_dim=8, position_parameters=96)
    assert learned.attention_layout("head_dim").units == 2 * 8
    for mode in units:
        layout = partial.attention_layout(mode)
        assert partial.layout_of(np.ones(layout.units, dtype=bool)) == layout
    with pytest.raises(SpaceError, match="an attention mask of 5 units does not fit 2 KV heads"):
        partial.layout_of(np.ones(5, dtype=bool))


def test_a_rotary_pair_selects_both_of_its_channels(partial: Architecture) -> None:
    layout = partial.attention_layout("head_dim_split")
    row = np.zeros(layout.units, dtype=bool)
    row[[1, 3]] = True  # Of head 0 the second pair and the second single channel of q and k.
    row[[12, 13, 14]] = True  # Of v and o its first three channels.
    qk, vo = layout.channels(row)
    assert np.flatnonzero(qk[0]).tolist() == [1, 3, 5]
    assert np.flatnonzero(vo[0]).tolist() == [0, 1, 2]
    assert not qk[1].any()
    assert not vo[1].any()
    genome = Genome(np.stack([row] * 3), np.ones((3, 16), dtype=bool), layout)
    assert genome.layer_sizes()[0] == {"kv_groups": 1, "qk_channels": 3, "vo_channels": 3, "ffn_channels": 16}


@pytest.mark.parametrize("width", range(2, 9))
def test_any_width_is_met_exactly_with_both_kinds_of_units(partial: Architecture, width: int) -> None:
    (axis,) = partial.attention_layout("head_dim").axes
    pairs, singles = axis.counts(width)
    assert 2 * pairs + singles == width
    assert 0 <= pairs <= 2
    assert 0 <= singles <= 4


def test_heads_of_a_layer_keep_equally_many(architecture: Architecture) -> None:
    layout = architecture.attention_layout("head_dim")
    rows = np.ones((3, layout.units), dtype=bool)
    rows[1, 0] = False
    with pytest.raises(SpaceError, match=r"attn_mask\[1\] keeps \[1, 2\] head units of its heads; all heads that are"):
        Genome(rows, np.ones((3, 16), dtype=bool), layout)
    split = architecture.attention_layout("head_dim_split")
    rows = np.ones((3, split.units), dtype=bool)
    rows[2, split.of(split.axes[0], np.arange(split.units)[None].astype(float))[0, 0].astype(int)] = False
    with pytest.raises(SpaceError, match=r"attn_mask\[2\] keeps q and k of other heads than v and o"):
        Genome(rows, np.ones((3, 16), dtype=bool), split)


@pytest.mark.parametrize("mode", ["kv_group", "head_dim", "head_dim_split"])
def test_bytes_bring_the_layout_back(partial: Architecture, mode: str) -> None:
    genome = dense(partial, mode)
    again = Genome.from_bytes(genome.to_bytes())
    assert (again, again.layout) == (genome, genome.layout)
    assert genome.fits(partial)
    with pytest.raises(SpaceError, match="header and length do not agree"):
        Genome.from_bytes(genome.to_bytes() + b"\0")


def test_whole_groups_are_written_as_ever(architecture: Architecture) -> None:
    """Digests of kv_group masks are in histories, caches and exports."""
    genome = Genome.dense(architecture)
    assert genome.to_bytes() == b"NLG1" + struct.pack("<III", 3, 2, 16) + b"\xfc" + b"\xff" * 6


def test_modes_that_contain_each_other_convert(partial: Architecture) -> None:
    layouts = {mode: partial.attention_layout(mode) for mode in ("kv_group", "head_dim", "head_dim_split")}
    groups = Genome(np.array([[True, False], [False, False], [True, True]]), np.ones((3, 16), dtype=bool))
    for layout in layouts.values():
        found = groups.to_layout(partial, layout)
        assert found is not None
        assert found.to_layout(partial, groups.layout) == groups
    scores = UnitScores(np.random.default_rng(0).random((3, 12)), np.ones((3, 16)), layouts["head_dim"])
    tied = Genome(np.stack([scores.top_attn(i, 2, [5]) for i in range(3)]), groups.mlp_mask, layouts["head_dim"])
    split = tied.to_layout(partial, layouts["head_dim_split"])
    assert split is not None
    assert split.head_widths[0].tolist() == split.head_widths[1].tolist() == [5, 5, 5]
    assert split.to_layout(partial, layouts["head_dim"]) == tied
    assert split.to_layout(partial, layouts["kv_group"]) is None
    rows = split.attn_mask.copy()
    rows[0, -16:] = True
    assert Genome(rows, split.mlp_mask, split.layout).to_layout(partial, layouts["head_dim"]) is None


@pytest.mark.parametrize("mode", ["head_dim", "head_dim_split"])
def test_masks_of_whole_heads_cost_what_groups_cost(partial: Architecture, mode: str) -> None:
    for biased in (False, True):
        sizes = Architecture(**{**partial.to_dict(), "qkv_bias": biased, "o_bias": biased})
        model = CostModel(sizes, sequence_length=16)
        assert model(dense(sizes, mode)) == model.dense
        assert sum(model.head_costs("params")) * 8 == pytest.approx(model.unit_costs("params")[0])


def test_widths_are_those_of_the_space(partial: Architecture) -> None:
    space = SearchSpace(partial, attention="head_dim_split", head_multiple=2, attn_ratio=(0.5, 1.0), ffn_multiple=4)
    assert list(space.head_counts(0)) == [4, 6, 8]
    assert space.align_head(0, 4.9) == 4
    assert SearchSpace(partial, attention="head_dim", ffn_multiple=4).head_multiple == 2
    assert space.whole_groups
    assert not SearchSpace(partial, attention=["kv_group", "head_dim"], ffn_multiple=4).whole_groups
    with pytest.raises(SpaceError, match="head_multiple must be even"):
        SearchSpace(partial, attention="head_dim", head_multiple=3, ffn_multiple=4)
    with pytest.raises(SpaceError, match="attention must name one or more of"):
        SearchSpace(partial, attention="heads", ffn_multiple=4)
    assert space.violations(Genome.dense(partial)) == [
        "attn_mask has units of mode kv_group, the space those of head_dim_split"
    ]


def test_units_are_ranked_within_their_head_and_kind(partial: Architecture) -> None:
    layout = partial.attention_layout("head_dim")
    scores = UnitScores(np.arange(36.0).reshape(3, 12), np.ones((3, 16)), layout)
    # Two pairs, then four single channels, of either head.
    assert scores.attn_ranks(0).tolist() == [0.5, 1.0, 0.25, 0.5, 0.75, 1.0] * 2
    assert scores.groups[0].tolist() == [sum(range(6)), sum(range(6, 12))]
    row = scores.top_attn(1, 1, [4])
    assert layout.groups(row).tolist() == [False, True]
    assert np.flatnonzero(layout.of(layout.axes[0], row)[1]).tolist() == [1, 4, 5]


def test_predicted_latency_falls_with_the_widths_of_heads(partial: Architecture) -> None:
    table = LatencyTable(
        constant=1.0,
        kv_groups=(1, 2),
        attention=(2.0, 3.0),
        ffn_channels=(16,),
        ffn=(4.0,),
        settings={"device": "test"},
        head_widths=(4, 8),
        heads=((2.0, 3.0), (1.5, 3.0)),
    )
    assert LatencyTable.from_dict(table.to_dict()) == table
    layout = partial.attention_layout("head_dim_split")
    scores = UnitScores(np.ones((3, layout.units)), np.ones((3, 16)), layout)
    rows = [scores.top_attn(0, 2, [4, 8]), scores.top_attn(1, 2, [8, 4]), scores.top_attn(2, 0, [8, 8])]
    genome = Genome(np.stack(rows), np.ones((3, 16), dtype=bool), layout)
    assert table(genome) == pytest.approx(1.0 + 2.0 + 1.5 + 3 * 4.0)
    assert table(Genome.dense(partial, layout)) == pytest.approx(table(Genome.dense(partial)))
    whole = dataclasses.replace(table, head_widths=(), heads=())
    assert "heads" not in whole.to_dict()
    with pytest.raises(SpaceError, match="no times of heads of mode head_dim_split"):
        whole(genome)


def test_layouts_are_refused_by_name() -> None:
    with pytest.raises(SpaceError, match="unknown attention mode 'rows'; known are kv_group, head_dim, head_dim_split"):
        AttentionLayout("rows", 2, 8)
