"""Strategies' building blocks and a guard on global random state for the tests of this folder."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def untouched_global_random_state() -> Iterator[None]:
    """Nothing in the search may draw from, or seed, the global generators."""
    before, numbers = random.getstate(), np.random.get_state()
    yield
    after = np.random.get_state()
    assert random.getstate() == before
    assert all(np.array_equal(x, y) for x, y in zip(numbers, after, strict=True))
