"""What the library leaves alone in the process of its user: malloc, and torch's threads."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from small_studies import SMALL, small_study

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.events import CandidateEvaluated, Event
from nas_llm.studies import run_study
from nas_llm.workflow import Resources, prepare, run_search

# Counts calls of mallopt from now on; the real one is not reached, so that nothing stays.
_COUNTED = """
import ctypes, sys
from types import SimpleNamespace
from nas_llm.subnet import _allocator
calls = []
_allocator.ctypes = SimpleNamespace(
    c_int=ctypes.c_int, CDLL=lambda name: SimpleNamespace(mallopt=lambda parameter, value: calls.append(parameter) or 1)
)
"""
_LIBRARY = """
from pathlib import Path
from nas_llm.config import load_problem
from nas_llm.workflow import prepare, run_search
loaded = load_problem("tiny-llama", overrides=sys.argv[2:])
run_search(loaded, run_dir=Path(sys.argv[1]))
prepared = prepare(loaded.problem, base_dir=loaded.base_dir, on_event=lambda event: None)
prepared.evaluator(prepared.splits.fitness, metric="perplexity")
print("mallopt", len(calls))
from nas_llm.subnet import keep_freed_memory
keep_freed_memory(), keep_freed_memory()
print("mallopt", len(calls))
"""
_COMMAND = """
from nas_llm.cli import main
try:
    main()
finally:
    print("mallopt", len(calls))
"""
_SEARCH = (*SMALL, "search.population=4", "search.evaluations=8")
# Four settings, once.
_ONCE = 4 if platform.libc_ver()[0] == "glibc" else 0


def _mallopt(program: str, *arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _COUNTED + program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [text for text in done.stdout.splitlines() if text.startswith("mallopt")]


def test_malloc_of_a_library_user_is_left_alone(tmp_path: Path) -> None:
    assert _mallopt(_LIBRARY, str(tmp_path / "run"), *_SEARCH) == ["mallopt 0", f"mallopt {_ONCE}"]


def test_the_command_keeps_freed_memory_once(tmp_path: Path) -> None:
    options = [word for override in _SEARCH for word in ("--set", override)]
    words = ["search", "tiny-llama", "--run", str(tmp_path / "run"), "--no-study", *options]
    assert _mallopt(_COMMAND, *words) == [f"mallopt {_ONCE}"]


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class _Threads:
    """Torch's threads whenever a candidate was evaluated."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, CandidateEvaluated):
            self.seen.add(torch.get_num_threads())


def _loaded() -> LoadedProblem:
    return load_problem("tiny-llama", overrides=_SEARCH)


@pytest.mark.usefixtures("two_threads")
def test_threads_are_those_of_before(tmp_path: Path) -> None:
    loaded, threads = _loaded(), _Threads()
    prepare(loaded.problem, base_dir=loaded.base_dir, on_event=threads, resources=Resources(threads=1))
    assert torch.get_num_threads() == 2
    run_search(loaded, run_dir=tmp_path / "run", on_event=threads, resources=Resources(threads=1), shared_cache=False)
    assert torch.get_num_threads() == 2
    assert threads.seen == {1}


@pytest.mark.usefixtures("two_threads")
def test_threads_of_a_study_are_those_that_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason="Optuna is not installed (pip install 'nas-llm[studies]')")
    from nas_llm.studies import Workbench

    seen: set[int] = set()
    search = Workbench.search

    def watched(*arguments: object, **options: object) -> object:
        seen.add(torch.get_num_threads())
        return search(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Workbench, "search", watched)
    run_study(small_study(trials=1), storage=tmp_path / "j", resources=Resources(threads=1))
    assert seen == {1}
    assert torch.get_num_threads() == 2
