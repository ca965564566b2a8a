"""Ctrl-C, SIGTERM and a stop that was asked for: one line and exit code 130, in every command."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome

from nas_llm.errors import Interrupted

Command = Callable[..., Outcome]
COMMANDS = (
    ("front", "mine"),
    ("reconstruct", "mine"),
    ("export", "mine"),
    ("convert", "exports/p05/hf", "--format", "gguf"),
    ("evaluate", "m", "--tasks", "piqa"),
    ("compare", "a", "b"),
    ("servable", "tiny-llama"),
    ("dashboard", "mine"),
)


@pytest.fixture
def started(workplace: Path) -> None:
    (workplace / "runs" / "mine").mkdir(parents=True)


def _stop() -> None:
    raise Interrupted


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, None], ids=["ctrl-c", "sigterm", "stop"])
def test_an_interrupt_is_one_line(
    run: Command, fake: FakeWorkflow, arguments: tuple[str, ...], number: signal.Signals | None
) -> None:
    if arguments[0] == "dashboard":
        pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    stop = _stop if number is None else lambda: os.kill(os.getpid(), number)
    fake.during_others = fake.during_reconstruction = stop
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.endswith("error: interrupted\n")
    assert "Traceback" not in outcome.err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_who_ignores_sigterm_keeps_ignoring_it(run: Command, fake: FakeWorkflow) -> None:
    fake.during_others = lambda: os.kill(os.getpid(), signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert run("servable", "tiny-llama").code == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)
