from __future__ import annotations

import io

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rich.console import Console

from nas_llm.cli.terminal._counts import parse_count
from nas_llm.cli.terminal._monitor import SearchMonitor, best_at_levels
from nas_llm.cli.terminal._progress import progress
from nas_llm.errors import ConfigError
from nas_llm.events import CandidateEvaluated, GenerationFinished, Notice, StageAdvanced, StageFinished, StageStarted


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_time_left_count_from_the_first_candidate_of_this_process() -> None:
    clock = Clock()
    monitor = SearchMonitor(clock)
    assert monitor.per_minute is None
    assert monitor.seconds_left is None
    clock.now += 30
    for evaluations in (101, 102, 103, 104):
        clock.now += 5
        monitor.update(CandidateEvaluated(evaluations, 200, {"perplexity": 9.0}, 5.0))
    assert monitor.per_minute == pytest.approx(12.0)
    assert monitor.seconds_left == pytest.approx(96 * 5.0)


def test_stages_begin_advance_and_end() -> None:
    clock = Clock()
    monitor = SearchMonitor(clock)
    monitor.update(StageStarted("data", total=10))
    clock.now += 3
    monitor.update(StageAdvanced("data", 4))
    monitor.update(StageAdvanced("model", 9))
    assert (monitor.stage_done, monitor.seconds_in("data")) == (4, 3.0)
    monitor.update(StageStarted("sampling"))
    clock.now += 2
    assert (monitor.stage, monitor.stage_done) == (StageStarted("sampling"), 0)
    monitor.update(StageFinished("sampling"))
    assert (monitor.stage, monitor.stage_done) == (StageStarted("data", total=10), 4)
    assert (monitor.seconds_in("sampling"), monitor.seconds_in("data")) == (2.0, 5.0)
    monitor.update(StageFinished("data"))
    assert (monitor.stage, monitor.stage_done) == (None, 0)


points = st.lists(
    st.builds(lambda q, c: {"macs_per_token": float(c), "perplexity": q}, st.floats(1.1, 1e4), st.integers(1, 10**9)),
    max_size=30,
)


@given(points, st.integers(2, 8))
def test_levels_hold_the_cheapest_and_the_best_and_nothing_that_is_beaten(
    front: list[dict[str, float]], levels: int
) -> None:
    found = best_at_levels(front, levels)
    assert len(found) <= levels
    assert (found == []) == (front == [])
    if front:
        assert found[0]["macs_per_token"] == min(point["macs_per_token"] for point in front)
        assert found[-1]["perplexity"] == min(point["perplexity"] for point in front)
    for point in found:
        cheaper = [other for other in front if other["macs_per_token"] <= point["macs_per_token"]]
        assert point["perplexity"] == min(other["perplexity"] for other in cheaper)


def test_a_terminal_gets_a_live_display() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    with progress(console) as on_event:
        on_event(StageStarted("data", "sampling text", total=20))
        on_event(StageAdvanced("data", 7))
        on_event(StageFinished("data", "20 windows"))
        on_event(CandidateEvaluated(40, 200, {"perplexity": 30.0, "macs_per_token": 1e8}, 2.0))
        on_event(GenerationFinished(3, 40, 200, 0.5, ({"perplexity": 30.0, "macs_per_token": 1e8},), 2.0))
        on_event(Notice("drawn again"))
        on_event(StageStarted("report"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "data: sampling text" in text
    assert "data: 20 windows" in text
    assert "generation 3" in text
    assert "40/200 evaluations" in text
    assert "hypervolume 0.5000" in text
    assert "best of 1 points on the front" in text
    assert "100.00M" in text
    assert "\x1b[" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [("100M", 1e8), ("1.5g", 1.5e9), ("2e8", 2e8), (" 134515008 ", 134515008.0), ("3k", 3000.0), (None, None)],
)
def test_counts_are_read(text: str | None, expected: float | None) -> None:
    assert parse_count(text, "--max-macs") == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "0", "nan", "inf", "1x"])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--max-macs"):
        parse_count(text, "--max-macs")
