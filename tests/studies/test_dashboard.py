"""The dashboard in a real browser, and the page to share."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import browser as chromium
import pytest
from browser import Browser, free_port

from nas_llm.config import load_problem
from nas_llm.errors import StudyError
from nas_llm.studies import SearchMirror, export_html, serve_dashboard
from nas_llm.workflow import run_search

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
SMALL = (
    "search.population=8",
    "search.evaluations=40",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=5",
)
# Where the pictures of the documentation are made: make them anew with this variable set to docs/images.
PICTURES = os.environ.get("NAS_LLM_PICTURES")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mirrored search."""
    directory = tmp_path_factory.mktemp("runs") / "demo"
    loaded = load_problem("tiny-llama", overrides=list(SMALL))
    mirror = SearchMirror(loaded.problem, directory)
    mirror.finish(run_search(loaded, run_dir=directory, on_event=mirror))
    return directory


@pytest.fixture(scope="module")
def address(run: Path) -> Iterator[str]:
    """A dashboard in a process of its own."""
    command = [sys.executable, "-c", "from nas_llm.cli import main; main()", "dashboard", str(run), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        yield found.group()
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Browser]:
    reason = chromium.missing()
    if reason:
        pytest.skip(reason)
    with chromium.browser(tmp_path) as opened:
        yield opened


def picture(window: Browser, name: str) -> None:
    if PICTURES:
        time.sleep(1.5)
        window.screenshot(Path(PICTURES) / f"{name}.png")


def test_a_person_finds_the_study_its_front_a_trial_the_note_and_an_artifact(
    address: str, window: Browser, run: Path
) -> None:
    window.open(address)
    window.wait_for(run.name)
    picture(window, "dashboard-studies")
    window.click("a", run.name)

    window.wait_for("Pareto Front")
    window.wait_until("return document.querySelectorAll('#graph-pareto-front .scatterlayer .trace').length > 0")
    picture(window, "dashboard-front")
    for name in ("pareto-front", "hypervolume", "architectures"):
        drawn = f"return document.getElementById('user-defined-plot:{name}')?.querySelector('.xtick') != null"
        window.wait_until(drawn)
    window.run("document.getElementById('user-defined-plot:pareto-front').scrollIntoView()")
    picture(window, "dashboard-plots")
    report = window.wait_until("return document.querySelector('a[href^=\"/artifacts/\"]')?.href")
    with urllib.request.urlopen(report, timeout=30) as answer:
        assert len(answer.read()) > 1000

    best = window.wait_until(
        "return [...document.querySelectorAll('a')].find(a => /trials\\?numbers=/.test(a.href))?.href"
    )
    window.open(best)
    text = window.wait_for("User Attributes")
    for words in ("Best Trial", "attention layers", "digest", "ffn_channels", "genome.bin"):
        assert words in text
    genome = window.wait_until("return document.querySelector('a[href^=\"/artifacts/\"]')?.href")
    with urllib.request.urlopen(genome, timeout=30) as answer:
        assert answer.read(4) == b"NLG1"
    picture(window, "dashboard-trial")

    window.click("a", "Note")
    assert "[search.operators]" in window.wait_for("The problem as it was resolved")
    assert window.url().endswith("/note")
    picture(window, "dashboard-note")


def test_the_page_to_share_needs_no_server(run: Path, window: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    export_html(str(run), path=path)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text)
    assert text.count("<tr><th scope='row'>") >= 40
    window.open(f"file://{path}")
    shown = window.wait_for("Architectures")
    for words in ("Pareto front", "Hypervolume", "What perplexity depends on", "macs_per_token (minimize)", "Note"):
        assert words in shown
    window.wait_until("return document.querySelectorAll('.js-plotly-plot .xtick').length >= 20")
    picture(window, "exported-page")


def test_what_cannot_be_shown_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").touch()
    with pytest.raises(StudyError, match=r"has no study\.journal"):
        serve_dashboard(str(tmp_path / "empty"))
    with pytest.raises(StudyError, match="is no run, study or storage"):
        serve_dashboard(str(tmp_path / "nothing"))
    with pytest.raises(StudyError, match="is not a directory"):
        serve_dashboard(str(run), artifacts=tmp_path / "nothing")
    with pytest.raises(StudyError, match="exists; --force"):
        export_html(str(run), path=tmp_path / "there.html")
    with pytest.raises(StudyError, match="holds no study"):
        export_html(f"sqlite:///{tmp_path}/empty.db", path=tmp_path / "page.html")
    port = free_port()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StudyError, match=f"127.0.0.1:{port}"):
        serve_dashboard(str(run), port=port)
