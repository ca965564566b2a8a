from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from example_fronts import example_front

from nas_llm.errors import RunError, SelectionError
from nas_llm.workflow import Front


def ids(front: Front, *point: str, **bounds: float) -> list[str]:
    return [chosen.id for chosen in front.select(point, **bounds)]


@pytest.mark.parametrize("quality", ["perplexity", "kl"])
def test_json_reads_back_equal(quality: str) -> None:
    front = example_front(quality)
    again = Front.from_json(front.to_json())
    assert again == front
    assert again.points[3].layers[0] == {"kv_groups": 4, "ffn_channels": 0}


def damaged(**changes: Any) -> str:
    return json.dumps(json.loads(example_front().to_json()) | changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "the front is corrupt"),
        ("[]", "schema list"),
        (damaged(schema=2), "schema 2"),
        (damaged(points=3), "the front is corrupt"),
        (json.dumps({"schema": 1}), "no key 'problem'"),
    ],
)
def test_a_corrupt_front_is_refused(text: str, expected: str) -> None:
    with pytest.raises(RunError, match=expected):
        Front.from_json(text)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [("digest", "0" * 32, "p02 does not match"), ("genome", "###", "p02 is corrupt"), ("genome", "AAAA", "corrupt")],
)
def test_a_genome_that_was_changed_is_refused(key: str, value: str, expected: str) -> None:
    data = json.loads(example_front().to_json())
    data["points"][1][key] = value
    with pytest.raises(RunError, match=expected):
        Front.from_json(json.dumps(data))


def test_csv_has_a_row_for_each_point(tmp_path: Path) -> None:
    front, path = example_front(), tmp_path / "front.csv"
    front.to_csv(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["dense", "p01", "p02", "p03", "p04"]
    assert [row["knee"] for row in rows] == ["0", "0", "1", "0", "0"]
    for row, point in zip(rows[1:], front.points, strict=True):
        assert int(row["macs_per_token"]) == point.cost.macs_per_token
        assert float(row["held_out_perplexity"]) == point.held_out_perplexity
        assert row["ffn_channels"].split() == [str(layer["ffn_channels"]) for layer in point.layers]


def test_csv_overwrites_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "front.csv"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="exists"):
        example_front().to_csv(path)
    assert path.read_text(encoding="utf-8") == "mine"
    example_front().to_csv(path, force=True)
    assert path.read_text(encoding="utf-8").startswith("id,")
    with pytest.raises(RunError, match=r"cannot write .*/missing/front\.csv: No such file"):
        example_front().to_csv(tmp_path / "missing" / "front.csv")


def test_names_choose_points_in_the_order_asked_for_and_none_twice() -> None:
    front = example_front()
    assert ids(front, "p03", "knee", "p03", "p01") == ["p03", "p02", "p01"]
    assert ids(front, "all") == ["p01", "p02", "p03", "p04"]
    assert ids(front, "best", "smallest") == ["p01", "p04"]
    assert ids(front) == ["p02"]


def test_a_ratio_chooses_the_nearest_point_that_is_still_free() -> None:
    front = example_front()
    ratios = [point.cost.inheriting_ratio for point in front.points]
    assert ids(front, f"ratio={ratios[1]}") == ["p02"]
    assert ids(front, "knee", f"ratio={ratios[1] + 1e-3}") == ["p02", "p01"]
    assert ids(front, "all", "ratio=0.5") == ["p01", "p02", "p03", "p04"]


def test_bounds_choose_the_best_point_within() -> None:
    front = example_front()
    macs = [point.cost.macs_per_token for point in front.points]
    params = [point.cost.params for point in front.points]
    ratios = [point.cost.inheriting_ratio for point in front.points]
    assert ids(front, max_macs=macs[1]) == ["p02"]
    assert ids(front, max_macs=macs[1] - 1) == ["p03"]
    assert ids(front, max_params=params[0] + 5) == ["p01"]
    assert ids(front, max_params=params[0], max_macs=macs[2]) == ["p03"]
    assert ids(front, min_ratio=ratios[2]) == ["p03"]
    assert ids(front, max_macs=macs[0], min_ratio=ratios[1]) == ["p01"]
    assert ids(front, "all", max_macs=macs[1], min_ratio=ratios[2]) == ["p02", "p03"]


@pytest.mark.parametrize(
    ("point", "bounds", "expected"),
    [
        (["p9"], {}, "no point 'p9'; take knee, best, smallest, all, ratio=0.8 or p01, p02, p03, p04"),
        (["ratio=x"], {}, "needs a number in"),
        (["ratio=1.5"], {}, "needs a number in"),
        ([], {"max_macs": 10.0}, "no point of the front lies within max_macs 10; the smallest there is 165120"),
        ([], {"min_ratio": 0.99}, "lies within min_ratio 0.99; the largest there is 0.857143"),
        (["p01"], {"max_macs": 200_000.0}, "point p01 has"),
    ],
)
def test_what_cannot_be_chosen_is_said(point: list[str], bounds: dict[str, float], expected: str) -> None:
    with pytest.raises(SelectionError) as caught:
        example_front().select(point, **bounds)
    assert expected in str(caught.value)


def test_best_is_best_on_held_out_text() -> None:
    data = json.loads(example_front().to_json())
    data["points"][0]["held_out_perplexity"] = 99.0
    assert ids(Front.from_json(json.dumps(data)), "best") == ["p02"]
    for point in data["points"]:
        point["held_out_perplexity"] = None
    assert ids(Front.from_json(json.dumps(data)), "best") == ["p01"]


def test_a_front_without_points_is_said_to_be_empty() -> None:
    with pytest.raises(SelectionError, match="has no points"):
        Front.from_json(damaged(points=[])).select(["all"])
