"""Path: through how many files of the package one search passes, and the export of one of its points.

``make bench NAME=path``. A file is passed when a function in it is called; what runs while a module is imported does
not count. tiny-llama is searched with an empty cache; its knee is exported as hf in a fresh process, caches warm.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import nas_llm
from benchmarks._result import write_result
from nas_llm.config import load_problem
from nas_llm.session import reopen
from nas_llm.workflow import export_points, open_run, run_search

PROBLEM = "tiny-llama"
FOLDER = Path(nas_llm.__file__).parent


class PassedFiles:
    """A profiler hook that collects the files of nas_llm in which functions are called, in all threads.

    Args:
        without: Code of a function; what is called while it runs is kept apart.

    Attributes:
        inside: Files that were passed while that function ran, relative to the package.
        outside: Files that were passed otherwise.
    """

    def __init__(self, without: CodeType) -> None:
        self.inside: set[str] = set()
        self.outside: set[str] = set()
        self._without = without
        self._within = False

    def during(self, action: Callable[[], Any]) -> None:
        """Run something and collect what it passes."""
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)
        try:
            action()
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _hook(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if code is self._without and event in ("call", "return"):
            self._within = event == "call"
        if event == "call" and code.co_name != "<module>":
            path = Path(code.co_filename)
            if path.is_relative_to(FOLDER):
                (self.inside if self._within else self.outside).add(path.relative_to(FOLDER).as_posix())


def search(run_dir: Path) -> set[str]:
    """Files that a search passes, from ``run_search`` to ``front.json`` and the report."""
    loaded = load_problem(PROBLEM)
    passed = _fresh_hook()
    passed.during(lambda: run_search(loaded, run_dir=run_dir))
    return passed.inside | passed.outside


def export(run_dir: Path) -> tuple[set[str], set[str]]:
    """Files that an export of the knee passes; and those of them that it passes while model, text and calibration load."""
    run = open_run(run_dir)
    passed = _fresh_hook()
    passed.during(lambda: export_points(run, run.front.select(["knee"])))
    return passed.outside, passed.inside


def _fresh_hook() -> PassedFiles:
    # What is imported late would be counted for its class bodies and decorators.
    for module in pkgutil.walk_packages(nas_llm.__path__, "nas_llm."):
        importlib.import_module(module.name)
    return PassedFiles(reopen.__code__)


def main() -> None:
    """Search, export, write the result."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NAS_LLM_CACHE"] = str(Path(folder) / "cache")
        run_dir = Path(folder) / "run"
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as fresh:
            searched = fresh.submit(search, run_dir).result()
            in_session, loading = fresh.submit(export, run_dir).result()
    exported = in_session | loading
    headline = {
        "files_search": len(searched),
        "files_export": len(exported),
        "files_export_in_session": len(in_session),
    }
    rows = [
        {
            "file": file,
            "search": "x" if file in searched else "",
            "export": "x" if file in exported else "",
            "export in a session": "x" if file in in_session else "",
        }
        for file in sorted(searched | exported)
    ]
    about = (
        f"Files of the package in which a function is called, of {len(list(FOLDER.rglob('*.py')))}: during one search "
        f"of {PROBLEM} with an empty cache, from `run_search` to `front.json` and the report; and while its knee is "
        "exported as hf in a fresh process, caches warm. In a session the model, text and calibration are there "
        "already: what is called while a closed run is loaded again is left out."
    )
    print(write_result("path", about=about, headline=headline, rows=rows))
    print(headline)


if __name__ == "__main__":
    main()
