from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nas_llm.errors import SpaceError
from nas_llm.space import UnitScores


@pytest.fixture
def scores() -> UnitScores:
    return UnitScores(np.array([[0.1, 5.0], [2.0, 2.0]]), np.array([[3.0, 1.0, 2.0, 4.0], [0.0, 0.0, 1.0, 0.0]]))


def test_ranks_follow_the_scores_and_ties_go_to_the_lower_index(scores: UnitScores) -> None:
    assert scores.mlp_ranks(0).tolist() == [0.75, 0.25, 0.5, 1.0]
    assert scores.mlp_ranks(1).tolist() == [0.75, 0.5, 1.0, 0.25]
    assert scores.attn_ranks(1).tolist() == [1.0, 0.5]


def test_top_masks_are_nested_and_exact(scores: UnitScores) -> None:
    masks = [scores.top_mlp(1, count) for count in range(5)]
    assert [int(mask.sum()) for mask in masks] == [0, 1, 2, 3, 4]
    for smaller, larger in pairwise(masks):
        assert (larger | ~smaller).all()
    assert scores.top_attn(0, 1).tolist() == [False, True]


def test_save_and_load(scores: UnitScores, tmp_path: Path) -> None:
    scores.save(tmp_path / "scores.npz")
    back = UnitScores.load(tmp_path / "scores.npz")
    assert back.digest() == scores.digest()
    assert np.array_equal(back.mlp, scores.mlp)
    assert UnitScores(scores.attn, scores.mlp + 1e-12).digest() != scores.digest()


def test_scores_cannot_be_changed(scores: UnitScores) -> None:
    with pytest.raises(ValueError, match="read-only"):
        scores.attn[0, 0] = 9.0


@pytest.mark.parametrize(
    ("attn", "mlp"),
    [(np.ones(2), np.ones((2, 3))), (np.ones((2, 2)), np.full((2, 3), np.nan)), (np.ones((1, 2)), np.ones((2, 3)))],
)
def test_bad_scores_are_refused(attn: np.ndarray, mlp: np.ndarray) -> None:
    with pytest.raises(SpaceError, match="scores"):
        UnitScores(attn, mlp)
