from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_llm.errors import SpaceError
from nas_llm.space import Genome


@st.composite
def genomes(draw: st.DrawFn) -> Genome:
    layers, groups, channels = draw(st.integers(1, 6)), draw(st.integers(1, 9)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    share = draw(st.sampled_from([0.0, 0.3, 1.0]))
    return Genome(rng.random((layers, groups)) < share, rng.random((layers, channels)) < share)


@settings(max_examples=60, deadline=None)
@given(genomes())
def test_bytes_round_trip(genome: Genome) -> None:
    back = Genome.from_bytes(genome.to_bytes())
    assert np.array_equal(back.attn_mask, genome.attn_mask)
    assert np.array_equal(back.mlp_mask, genome.mlp_mask)
    assert back == genome
    assert hash(back) == hash(genome)
    assert back.digest() == genome.digest()


@settings(max_examples=60, deadline=None)
@given(genomes(), st.data())
def test_every_bit_is_part_of_the_digest(genome: Genome, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["attn_mask", "mlp_mask"]))
    masks = {"attn_mask": genome.attn_mask.copy(), "mlp_mask": genome.mlp_mask.copy()}
    layer = data.draw(st.integers(0, genome.num_layers - 1))
    unit = data.draw(st.integers(0, masks[name].shape[1] - 1))
    masks[name][layer, unit] ^= True
    other = Genome(**masks)
    assert other.digest() != genome.digest()
    assert other != genome
    changed = [i for i in range(genome.num_layers) if other.layer_key(i) != genome.layer_key(i)]
    assert changed == [layer]


def test_shapes_that_pack_alike_differ() -> None:
    flat, tall = (
        Genome(np.ones((1, 4), bool), np.ones((1, 4), bool)),
        Genome(np.ones((2, 2), bool), np.ones((2, 2), bool)),
    )
    assert flat.digest() != tall.digest()


def test_digest_is_stable_across_processes() -> None:
    code = (
        "import numpy as np; from nas_llm.space import Genome;"
        "print(Genome(np.eye(3, dtype=bool), np.eye(3, 8, dtype=bool)).digest())"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert printed == Genome(np.eye(3, dtype=bool), np.eye(3, 8, dtype=bool)).digest()
    assert len(printed) == 32


def test_masks_cannot_be_changed_from_inside_or_outside() -> None:
    mine = np.ones((2, 3), dtype=bool)
    genome = Genome(mine, np.ones((2, 4), dtype=bool))
    digest = genome.digest()
    mine[0, 0] = False
    assert genome.attn_mask.all()
    with pytest.raises(ValueError, match="read-only"):
        genome.mlp_mask[0, 0] = False
    with pytest.raises(AttributeError):
        genome.attn_mask = mine  # type: ignore[misc]
    assert Genome(genome.attn_mask, genome.mlp_mask).digest() == digest


def test_with_rows_copies() -> None:
    genome = Genome(np.ones((2, 3), dtype=bool), np.ones((2, 4), dtype=bool))
    row = np.array([True, False, False, False])
    other = genome.with_rows(attn=[(1, np.zeros(3, dtype=bool))], mlp=[(0, row)])
    assert other.kv_groups.tolist() == [3, 0]
    assert other.ffn_channels.tolist() == [1, 4]
    assert genome.kv_groups.tolist() == [3, 3]
    assert genome.ffn_channels.tolist() == [4, 4]


@pytest.mark.parametrize(
    ("attn", "mlp", "said"),
    [
        (np.ones((2, 3)), np.ones((2, 4), bool), "float64"),
        (np.ones(3, bool), np.ones((2, 4), bool), "1-d"),
        (np.ones((2, 3), bool), np.ones((3, 4), bool), "layers"),
    ],
)
def test_bad_masks_are_refused(attn: np.ndarray, mlp: np.ndarray, said: str) -> None:
    with pytest.raises(SpaceError, match=said):
        Genome(attn, mlp)


def test_bad_bytes_are_refused() -> None:
    data = Genome(np.ones((2, 3), bool), np.ones((2, 9), bool)).to_bytes()
    for bad in (b"", data[:-1], data + b"\0", b"XXXX" + data[4:]):
        with pytest.raises(SpaceError, match="not a genome"):
            Genome.from_bytes(bad)
