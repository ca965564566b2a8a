"""``nas-llm study`` and ``nas-llm dashboard``, and what ``search`` does about studies."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_workflow import FakeWorkflow, Outcome

from nas_llm.config import load_problem

pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")

Command = Callable[..., Outcome]
STUDY = """
name = "mine"
problem = "tiny-llama"
set = ["data.calibration.tokens=1024", "data.fitness.tokens=256", "data.held_out.tokens=256"]
evaluations = 16
seeds = [0]
trials = 3
[parameters]
search.population = { low = 8, high = 12, step = 4 }
"""
WITHOUT_OPTUNA = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name.startswith("optuna") else find(name, *rest)
class Missing:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] in ("optuna", "optuna_dashboard"):
            raise ImportError(name)
sys.meta_path.insert(0, Missing())
from nas_llm.cli import main
main()
"""


def test_search_mirrors_unless_told_otherwise(run: Command, fake: FakeWorkflow) -> None:
    assert run("search", "tiny-llama", "--run", "a").code == 0
    assert run("search", "tiny-llama", "--run", "b", "--study", "sqlite:///s.db").code == 0
    assert run("search", "tiny-llama", "--run", "c", "--no-study").code == 0
    assert [call["mirrored"] for call in fake.calls] == [True, True, False]
    seen = [(str(mirror.directory), mirror.problem.name, mirror.url) for mirror in fake.mirrors]
    assert seen == [("a", "tiny-llama", None), ("b", "tiny-llama", "sqlite:///s.db")]
    assert [mirror.summaries[0].run_dir for mirror in fake.mirrors] == [Path("a"), Path("b")]
    assert "give one of them" in run("search", "tiny-llama", "--run", "d", "--study", "x", "--no-study").err


def test_a_study_from_beginning_to_a_problem(run: Command, workplace: Path) -> None:
    (workplace / "mine.toml").write_text(STUDY, encoding="utf-8")
    first = run("study", "mine.toml", "--trials", "2", "--threads", "1")
    assert first.code == 0
    assert "trial 0 (paper): complete, hypervolume 0." in first.err
    assert "1 (default)" in first.out
    assert "look at it: nas-llm dashboard runs/studies/mine" in first.out
    assert (workplace / "runs/studies/mine/study.journal").is_file()
    again = run("study", "mine.toml")
    assert again.code == 2
    assert "error: study mine is in runs/studies/mine/study.journal already; continue or join it" in again.err
    changed = run("study", "mine.toml", "--resume", "--set", "evaluations=18")
    assert changed.code == 2
    assert "begun with another definition: problem.search.evaluations (was 16, now 18)" in changed.err
    assert changed.err.count("\n") == 1
    rest = run("study", "mine.toml", "--resume", "--apply", "best.toml")
    assert rest.code == 0
    assert "3 trials" in rest.out
    assert "search it with: nas-llm search best.toml" in rest.out
    assert load_problem("best.toml").problem.search.evaluations == 16
    assert "best.toml exists; --force" in run("study", "mine.toml", "--resume", "--apply", "best.toml").err
    page = run("dashboard", "mine", "--export", "html")
    assert page.code == 0
    assert (workplace / "study.html").stat().st_size > 1_000_000


def test_studies_are_listed(run: Command) -> None:
    shown = run("study").out
    assert "tiny-llama" in shown
    assert "smollm2-135m" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("study", "tiny-lama"), 'error: study "tiny-lama" does not exist; did you mean the packaged "tiny-llama"?'),
        (
            ("study", "tiny-llama", "--set", "sampler.name=tpee"),
            'error: sampler "tpee" is unknown; did you mean "tpe"?',
        ),
        (
            ("study", "tiny-llama", "--set", "parameters.search.popu={low=1,high=2}"),
            'unknown hyperparameter "search.popu"',
        ),
        (("study", "tiny-llama", "--trials", "0"), "trials = 0 should be greater than 0"),
        (("study", "tiny-llama", "--workers", "0"), "error: --workers must be at least 1, got 0"),
        (("study", "tiny-llama", "--storage", "nosuch://x"), "error: storage nosuch://x cannot be opened"),
        (("dashboard", "nix"), "error: nix is no run, study or storage"),
        (("dashboard", "nix", "--out", "x.html"), "error: --out and --force belong to --export html"),
        (("dashboard", "nix", "--export", "pdf"), "error: --export 'pdf' is unknown; there is html"),
        (
            ("dashboard", "sqlite:////proc/nowhere/x.db", "--export", "html"),
            "error: storage sqlite:////proc/nowhere/x.db",
        ),
    ],
)
def test_bad_input_is_one_line_and_code_2(run: Command, arguments: tuple[str, ...], expected: str) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert expected in outcome.err
    assert outcome.err.count("\n") == 1


def test_without_optuna_searches_run_and_studies_say_what_is_missing(tmp_path: Path) -> None:
    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT_OPTUNA, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)

    small = ("--set", "search.population=4", "--set", "data.calibration.tokens=1024", "--evaluations", "6")
    plain = start("search", "tiny-llama", "--run", "r", *small)
    assert plain.returncode == 0, plain.stderr
    # A search of six evaluations is no better than a uniform model, and says so; nothing else is to be said.
    assert [line for line in plain.stderr.splitlines() if "note:" in line and "uniform" not in line] == []
    assert not (tmp_path / "r" / "study.journal").exists()
    for arguments, what in (
        (("search", "tiny-llama", "--run", "s", "--study", "j"), "--study"),
        (("study", "tiny-llama"), "nas-llm study"),
        (("dashboard", "r"), "nas-llm dashboard"),
    ):
        done = start(*arguments)
        assert done.returncode == 2
        assert done.stderr.endswith(f"error: {what} needs Optuna: pip install 'nas-llm[studies]'\n")
        assert "Traceback" not in done.stderr
