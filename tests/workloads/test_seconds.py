from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from nas_llm.errors import SpaceError
from nas_llm.space import Genome, LatencyTable
from nas_llm.workloads import Workload, WorkloadSeconds, WorkloadTables


def table(scale: float, **changed: Any) -> LatencyTable:
    numbers: dict[str, Any] = {
        "constant": scale,
        "kv_groups": (1, 2),
        "attention": (0.5 * scale, 0.75 * scale),
        "ffn_channels": (4, 8),
        "ffn": (0.25 * scale, 0.5 * scale),
        "settings": {"device": "a clock", "dtype": "float32"},
    }
    return LatencyTable(**{**numbers, **changed})


def genome() -> Genome:
    return Genome(np.array([[True, False], [True, True], [False, False]]), np.arange(8) < np.array([[4], [6], [0]]))


def test_an_answer_is_a_prefill_and_all_steps_of_a_growing_cache() -> None:
    tables = WorkloadTables(prefill=table(10.0), decode=(table(1.0), table(3.0)), new_tokens=5)
    # Behind 100, 101, ... 104 tokens the steps take 1, 1.5, 2, 2.5 and 3 times what the first does.
    steps = [table(scale)(genome()) for scale in (1.0, 1.5, 2.0, 2.5, 3.0)]
    assert tables(genome()) == pytest.approx(table(10.0)(genome()) + sum(steps))
    cost = WorkloadSeconds("chat", tables)
    assert (cost.name, cost(genome())) == ("chat.seconds", tables(genome()))
    group, channel = cost.unit_costs
    assert (group, channel) == pytest.approx((20.0 * 0.25, 20.0 * 0.25 / 4))


def test_one_new_token_is_one_step() -> None:
    assert Workload(name="chat", prompt=100, new_tokens=1, dtype="float32").contexts == (100,)
    assert Workload(name="chat", prompt=100, new_tokens=5, dtype="float32").contexts == (100, 104)
    tables = WorkloadTables(prefill=table(10.0), decode=(table(1.0),), new_tokens=1)
    assert tables(genome()) == table(10.0)(genome()) + table(1.0)(genome())


def test_tables_come_back_from_json() -> None:
    tables = WorkloadTables(prefill=table(10.0), decode=(table(1.0), table(3.0)), new_tokens=5)
    again = WorkloadTables.from_dict(json.loads(json.dumps(tables.to_dict())))
    assert (again.digest(), again(genome())) == (tables.digest(), tables(genome()))
    with pytest.raises(SpaceError, match="not the tables of a workload: KeyError 'decode'"):
        WorkloadTables.from_dict({"prefill": table(1.0).to_dict()})
    with pytest.raises(SpaceError, match="at least one new token"):
        WorkloadTables(prefill=table(10.0), decode=(table(1.0),), new_tokens=0)
