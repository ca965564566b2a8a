from __future__ import annotations

import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from example_fronts import ExampleRow, example_front, example_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from nas_llm.errors import RunError
from nas_llm.report import convergence_figure, front_figure, write_report
from nas_llm.report._convergence import hypervolumes
from nas_llm.report._figures import _log_steps


class Outline(HTMLParser):
    """Collects references, table rows and ids; raises when tags do not close in order."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def page(tmp_path: Path) -> str:
    front = example_front()
    write_report(tmp_path / "report.html", front, example_rows(front))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_from_outside(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    assert outline.open == []
    assert outline.references == []
    assert {"figure-front", "figure-convergence"} <= set(outline.ids)
    assert page.count(get_plotlyjs()) == 1
    assert not re.search(r"<!--\w+-->", page.replace(get_plotlyjs(), ""))


def test_the_table_holds_every_point_and_the_dense_model(page: str) -> None:
    outline = Outline()
    outline.feed(page)
    rows = {row[0]: row for row in outline.rows}
    front = example_front()
    assert list(rows)[1:6] == ["dense", "p01", "p02 (knee)", "p03", "p04"]
    for point, name in zip(front.points, ["p01", "p02 (knee)", "p03", "p04"], strict=True):
        assert rows[name][1] == f"{point.cost.inheriting_ratio:.4f}"
        assert rows[name][6] == (f"{point.held_out_perplexity:.2f}" if name != "p04" else "2200")
    assert rows["p01"][7] == "1.200"
    assert rows["p04"][8:] == ["4/4", "3/4"]


def test_the_page_says_which_text_it_was_optimised_for_and_escapes_it(page: str) -> None:
    assert "Optimised for: <strong>&lt;wiki&gt;.txt, 8 windows of 128 tokens</strong>" in page
    assert "<wiki>" not in page
    assert "tiny-llama at abc123" in page
    assert "reconstructed weights" in page


def test_an_earlier_report_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    write_report(tmp_path / "report.html", example_front(), [])
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert "old" not in (tmp_path / "report.html").read_text(encoding="utf-8")[:3]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot write .*/missing/report\.html: No such file"):
        write_report(tmp_path / "missing" / "report.html", example_front(), [])


def test_the_figure_shows_the_cloud_both_scores_the_dense_model_and_the_knee() -> None:
    front = example_front()
    rows = example_rows(front)
    broken = ExampleRow(99, 1, {"perplexity": math.inf, "macs_per_token": 1.0}, front.dense.cost)
    traces = {trace.name: trace for trace in front_figure(front, [*rows, broken]).data}
    assert len(traces["evaluated"].x) == len(rows)
    assert list(traces["front, as the search saw it"].y) == [2000.0, 30.0, 15.0, 12.0]
    assert list(traces["front, on held-out text"].y) == pytest.approx([2200.0, 33.0, 16.5, 13.2])
    assert list(traces["knee"].y) == [15.0]
    assert list(traces["dense model"].y) == pytest.approx([10.0, 11.0])
    assert "p02" in traces["knee"].text[0]
    assert f"{front.points[1].cost.inheriting_ratio:.4f}" in traces["knee"].text[0]


def test_divergence_is_not_mixed_with_perplexity_and_shown_on_a_linear_axis() -> None:
    front = example_front("kl")
    figure = front_figure(front, example_rows(front))
    names = [trace.name for trace in figure.data]
    assert "front, on held-out text" not in names
    assert list(next(trace for trace in figure.data if trace.name == "dense model").y) == [0.0]
    assert figure.layout.yaxis.type is None


def test_hypervolume_grows_with_the_generations_as_a_brute_force_count_does() -> None:
    front = example_front()
    dense = front.dense.objectives
    values = [(1, 20.0, 0.9), (1, 40.0, 0.5), (2, 60.0, 0.7), (3, 12.0, 0.6), (3, math.inf, 0.1)]
    rows = [
        ExampleRow(i, g, {"perplexity": q, "macs_per_token": c * dense["macs_per_token"]}, front.dense.cost)
        for i, (g, q, c) in enumerate(values)
    ]
    found = hypervolumes(rows, front.objectives, dense)
    # The box goes from the dense perplexity to 20 times that, by its logarithm, and to 1.01 of the dense cost.
    quality, cost = np.meshgrid(np.linspace(0.0, 1.0, 801), np.linspace(0.0, 1.01, 801))
    for generation in (1, 2, 3):
        dominated = np.zeros_like(quality, dtype=bool)
        for g, q, c in values:
            if g <= generation:
                dominated |= (quality >= math.log(q / 10.0) / math.log(20.0)) & (cost >= c)
        assert found[generation] == pytest.approx(dominated.mean(), abs=5e-3)
    assert list(found) == [1, 2, 3]
    assert found[1] == found[2] < found[3]


def test_no_history_gives_no_curve() -> None:
    assert len(convergence_figure(example_front(), []).data) == 0
    front = example_front()
    curve = convergence_figure(front, example_rows(front)).data[0]
    assert list(curve.x) == [1, 2, 3, 4]
    assert all(a <= b for a, b in itertools.pairwise(curve.y))


@settings(max_examples=200)
@given(low=st.floats(1.01, 1e4), spread=st.floats(1.0, 1e3))
def test_a_perplexity_axis_has_labels_on_all_of_its_length(low: float, spread: float) -> None:
    high = low * spread
    steps = _log_steps([high, low])
    shown = [step for step in steps if low <= step <= high]
    assert steps == sorted(set(steps))
    if 1.001 < spread <= 3:
        # Labels from end to end, and few enough to read.
        assert 2 <= len(shown) <= 7
    if spread > 3:
        assert len(shown) >= 2
    assert steps[0] <= low * (1 + 1e-9)
    assert steps[-1] >= high * (1 - 1e-9) or spread > 3
