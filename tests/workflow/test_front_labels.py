"""Costs of one's own in a front and its files, where their class is not at hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from example_fronts import ExampleRow, example_front
from rich.console import Console

from nas_llm.cli.terminal import front_table
from nas_llm.errors import RunError
from nas_llm.front import Front, FrontPoint
from nas_llm.report import architecture_figure, front_figure, write_report

LABELS = {"heat": {"title": "heat per token", "unit": "mJ"}}


def warm(point: FrontPoint) -> FrontPoint:
    heat = float(point.genome.ffn_channels.sum()) * 2.5
    cost = replace(point.cost, further={"heat": heat, "id": 3.0})
    return replace(point, cost=cost, objectives={**point.objectives, "heat": heat})


def warm_front(quality: str = "perplexity") -> Front:
    front = example_front(quality)
    return replace(
        front,
        objectives=(quality, "heat", "macs_per_token"),
        dense=warm(front.dense),
        points=tuple(map(warm, front.points)),
        labels=LABELS,
    )


def table(front: Front) -> str:
    console = Console(file=StringIO(), width=240)
    console.print(front_table(front, front.points))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("quality", ["perplexity", "kl"])
def test_tables_report_and_figures_show_title_unit_and_value(tmp_path: Path, quality: str) -> None:
    front = warm_front(quality)
    shown = table(front)
    assert "heat per token" in shown
    assert "1.60k mJ" in shown
    assert front_figure(front, [], price="heat").layout.xaxis.title.text == "heat per token (mJ)"
    assert f"p01 ({2.5 * 4 * 128 / 1000:.2f}k mJ)" in architecture_figure(front).data[0].x
    rows = [ExampleRow(n, 1, point.objectives, point.cost) for n, point in enumerate(front.points, 1)]
    write_report(tmp_path / "report.html", front, rows)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">Heat per token</th><th scope="col">Id</th>' in page
    assert "<td>1.60k mJ</td><td>3</td>" in page


def test_without_labels_the_name_stands_for_the_title() -> None:
    front = replace(warm_front(), labels={})
    assert front.record("heat").label == "heat"
    assert " heat " in table(front)


def test_square_brackets_of_a_unit_are_no_markup() -> None:
    front = replace(warm_front(), labels={"heat": {"title": "heat [fine]", "unit": "[mJ]"}})
    assert "heat [fine]" in table(front)
    assert "1.60k [mJ]" in table(front)


def test_json_gives_back_what_it_was_given() -> None:
    front = warm_front()
    assert Front.from_json(front.to_json()) == front
    plain = json.loads(example_front().to_json())
    assert "labels" not in plain
    assert "further" not in plain["dense"]["cost"]


def test_columns_of_a_csv_keep_their_places(tmp_path: Path) -> None:
    warm_front().to_csv(tmp_path / "f.csv")
    with (tmp_path / "f.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["dense", "p01", "p02", "p03", "p04"]
    assert [float(row["heat"]) for row in rows[:2]] == [1600.0, 1280.0]
    assert {row["cost_id"] for row in rows} == {"3.0"}
    assert list(rows[0])[-5:] == ["heat", "cost_id", "kv_groups", "ffn_channels", "digest"]


def _set(data: dict[str, Any], keys: tuple[Any, ...], value: Any) -> None:
    for key in keys[:-1]:
        data = data[key]
    data[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("labels",), [], "labels should be an object, is \\[\\]"),
        (("labels", "heat"), "mJ", "labels.heat should be an object"),
        (("labels", "heat"), {"title": "heat"}, "no key 'labels.heat.unit'"),
        (("labels", "heat", "unit"), 5, "labels.heat.unit should be a string, is 5"),
        (("dense", "cost", "further"), [], "dense.cost.further should be an object"),
        (("points", 1, "cost", "further", "heat"), "warm", r"points\[1\].cost.further.heat should be a number"),
        (("points", 1, "cost", "further", "heat"), True, r"points\[1\].cost.further.heat should be a number"),
        (("objectives",), ["heat", "params"], "exactly one of perplexity, kl"),
    ],
)
def test_damaged_fronts_say_where(keys: tuple[Any, ...], value: Any, said: str) -> None:
    data = json.loads(warm_front().to_json())
    _set(data, keys, value)
    with pytest.raises(RunError, match=said):
        Front.from_json(json.dumps(data))
