"""Operators and finishing methods of one's own that fail, or give something else: one line that names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_search import architecture, unit_scores

from nas_llm.errors import ConfigError
from nas_llm.plugins import load_module
from nas_llm.search import GenomeMutation, MaskMutation, PymooCrossover, PymooSampling
from nas_llm.space import Genome

FILE = """
from nas_llm.search import Crossover, Mutation, Sampling
from nas_llm.space import Genome


class Raises(Mutation):
    def __call__(self, genome, *, rng):
        raise ValueError("my own fault")


class Forced(Mutation):
    def __call__(self, genome, *, rng):
        return genome

    def force(self, genome, *, rng):
        return genome.mlp_mask


class Nothing(Mutation):
    def __call__(self, genome, *, rng):
        pass


class Short(Mutation):
    def __call__(self, genome, *, rng):
        return Genome(genome.attn_mask[:2], genome.mlp_mask[:2])


class One(Crossover):
    def __call__(self, first, second, *, rng):
        return first


class Fails(Crossover):
    def __call__(self, first, second, *, rng):
        return first[0]


class Pairs(Sampling):
    def draw(self, count, rng):
        return [(1, 2)] * count
"""


@pytest.fixture
def own(tmp_path: Path) -> Any:
    (tmp_path / "own.py").write_text(FILE, encoding="utf-8")
    return load_module("own.py", base_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Raises", "mutation Raises failed in line 8 of own.py: ValueError: my own fault"),
        ("Forced", "mutation Forced returned ndarray; it should return a genome"),
        ("Nothing", "mutation Nothing returned None; it should return a genome"),
        ("Short", r"mutation Short returned masks of \(2, 3\) and \(2, 64\); they should stay \(6, 3\) and \(6, 64\)"),
    ],
)
def test_a_mutation_is_named(own: Any, name: str, said: str) -> None:
    mutation = GenomeMutation([getattr(own, name)()])
    with pytest.raises(ConfigError, match=said):
        mutation(Genome.dense(architecture()), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("One", "crossover One returned Genome; it should return two genomes"),
        ("Fails", "crossover Fails failed in line 36 of own.py: TypeError: 'Genome' object is not subscriptable"),
    ],
)
def test_a_crossover_is_named(own: Any, name: str, said: str) -> None:
    parents = np.empty((2, 1, 1), dtype=object)
    parents[:, 0, 0] = [Genome.dense(architecture())] * 2
    with pytest.raises(ConfigError, match=said):
        PymooCrossover(getattr(own, name)(), probability=1.0)._do(None, parents, random_state=np.random.default_rng(0))


def test_a_sampling_is_named(own: Any) -> None:
    with pytest.raises(ConfigError, match=r"sampling Pairs returned list of 3 \(tuple\); it should return a list of g"):
        PymooSampling(own.Pairs().draw)._do(None, 3, random_state=np.random.default_rng(0))


def test_a_fault_of_ours_is_not_taken_for_a_strangers() -> None:
    broken = MaskMutation(unit_scores(architecture()), probability=1.0)
    broken.scores = None  # type: ignore[assignment]
    genome = Genome.dense(architecture()).with_rows(mlp=[(0, np.arange(64) % 2 > 0)])
    with pytest.raises(AttributeError):
        GenomeMutation([broken])(genome, rng=np.random.default_rng(0))
