from __future__ import annotations

import json

import numpy as np
import pytest

from nas_llm.data import WindowSet
from nas_llm.errors import DataError


def test_tokens_are_a_read_only_copy() -> None:
    given = np.arange(6, dtype=np.int64).reshape(2, 3)
    windows = WindowSet(tokens=given, name="fitness")
    given[0, 0] = 99
    assert windows.tokens[0, 0] == 0
    assert windows.num_tokens == 6
    with pytest.raises(ValueError, match="read-only"):
        windows.tokens[0, 0] = 1


def test_digest_sees_shape_and_tokens_and_nothing_else() -> None:
    tokens = np.arange(12, dtype=np.int64)
    base = WindowSet(tokens=tokens.reshape(3, 4), name="a", sources=({"source": "x"},))
    assert len(base.digest()) == 32
    assert base.digest() == WindowSet(tokens=tokens.reshape(3, 4).astype(np.int32), name="b").digest()
    assert base.digest() != WindowSet(tokens=tokens.reshape(4, 3), name="a").digest()
    changed = tokens.copy()
    changed[-1] += 1
    assert base.digest() != WindowSet(tokens=changed.reshape(3, 4), name="a").digest()


def test_describe_is_json_and_complete() -> None:
    windows = WindowSet(tokens=np.zeros((2, 5), dtype=np.int64), name="held_out", sources=({"source": "self"},))
    described = json.loads(json.dumps(windows.describe()))
    assert described == {
        "name": "held_out",
        "tokens": 10,
        "window": 5,
        "windows": 2,
        "digest": windows.digest(),
        "sources": [{"source": "self"}],
    }


@pytest.mark.parametrize("tokens", [np.zeros((0, 4), dtype=np.int64), np.zeros(4, dtype=np.int64), np.zeros((2, 2))])
def test_what_is_no_window_set_is_refused(tokens: np.ndarray) -> None:
    with pytest.raises(DataError, match="windows of 'fitness' must be a non-empty 2-d integer array"):
        WindowSet(tokens=tokens, name="fitness")
