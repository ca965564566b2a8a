from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from nas_llm.errors import Interrupted
from nas_llm.search import CachedEvaluator, EvaluationCache
from nas_llm.search.engine import OnResult
from nas_llm.space import Genome


def genome(number: int) -> Genome:
    rng = np.random.default_rng(number)
    return Genome(rng.random((6, 3)) < 0.5, rng.random((6, 64)) < 0.5)


class Numbered:
    """Evaluates genomes in reverse order and gives those up that have a bar below their value."""

    def __init__(self, values: Callable[[Genome], float]) -> None:
        self._values = values
        self.asked: list[list[Genome]] = []

    def evaluate(
        self, genomes: Sequence[Genome], *, on_result: OnResult, bars: Sequence[float] | None = None
    ) -> list[float]:
        self.asked.append(list(genomes))
        found = [self._values(genome) for genome in genomes]
        for index in reversed(range(len(genomes))):
            raced = bars is not None and bars[index] < found[index]
            on_result(index, found[index], 0.5, 0.25 if raced else 1.0)
        return found


NUMBERS = {genome(number).digest(): float(number) for number in range(10)}


def number_of(subnet: Genome) -> float:
    return NUMBERS[subnet.digest()]


@pytest.fixture
def cache(tmp_path: Path) -> EvaluationCache:
    return EvaluationCache(tmp_path / "e.sqlite", identity="test")


def test_what_is_known_is_not_computed_again(cache: EvaluationCache) -> None:
    evaluator, told = Numbered(number_of), []
    cached = CachedEvaluator(evaluator, cache)
    assert cached.evaluate([genome(1), genome(2)]) == [1.0, 2.0]
    asked = [genome(number) for number in (3, 1, 4, 3, 2)]
    values = cached.evaluate(asked, on_result=lambda *result: told.append(result))
    assert values == [3.0, 1.0, 4.0, 3.0, 2.0]
    assert evaluator.asked[1:] == [[genome(3), genome(4)]]
    # Those of the cache first, at no cost; each once, at the place where it was named first.
    assert told == [(1, 1.0, 0.0, 1.0), (4, 2.0, 0.0, 1.0), (2, 4.0, 0.5, 1.0), (0, 3.0, 0.5, 1.0)]


def test_it_works_without_a_cache_and_on_nothing() -> None:
    evaluator = Numbered(number_of)
    cached = CachedEvaluator(evaluator, None)
    assert cached.evaluate([genome(1), genome(1)]) == [1.0, 1.0]
    assert cached.evaluate([]) == []
    assert evaluator.asked == [[genome(1)]]


def test_what_does_not_compare_is_the_worst_there_is_for_everybody(cache: EvaluationCache) -> None:
    told: list[float] = []
    cached = CachedEvaluator(Numbered(lambda subnet: math.nan), cache)
    for _ in range(2):
        assert cached.evaluate([genome(1)], on_result=lambda index, value, *_: told.append(value)) == [math.inf]
    assert told == [math.inf, math.inf]
    assert cache.get([genome(1).digest()]) == {genome(1).digest(): math.inf}


def test_estimates_are_told_and_not_kept(cache: EvaluationCache) -> None:
    told = []
    cached = CachedEvaluator(Numbered(number_of), cache)
    cached.evaluate([genome(3)])
    values = cached.evaluate(
        [genome(3), genome(5), genome(6)], on_result=lambda *result: told.append(result), bars=[0.0, 1.0, math.inf]
    )
    assert values == [3.0, 5.0, 6.0]
    assert told == [(0, 3.0, 0.0, 1.0), (2, 6.0, 0.5, 1.0), (1, 5.0, 0.5, 0.25)]
    assert set(cache.get(NUMBERS).values()) == {3.0, 6.0}


def test_a_stop_is_heard_between_genomes_and_what_was_computed_is_kept(cache: EvaluationCache) -> None:
    evaluator, told = Numbered(number_of), []
    stopping = CachedEvaluator(evaluator, cache, should_stop=lambda: len(told) == 1)
    with pytest.raises(Interrupted):
        stopping.evaluate([genome(1), genome(2)], on_result=lambda *result: told.append(result))
    assert told == [(1, 2.0, 0.5, 1.0)]
    assert set(cache.get(NUMBERS).values()) == {2.0}
    with pytest.raises(Interrupted):
        stopping.evaluate([genome(3)])
    assert len(evaluator.asked) == 1
    assert stopping.evaluate([]) == []
