"""One benchmark's result on disk, and docs/benchmarks.md made from all of them."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from nas_llm.runs._versions import package_versions

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"


def write_result(name: str, *, about: str, headline: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``benchmarks/results/NAME.json`` and bring docs/benchmarks.md up to date.

    Args:
        name: The benchmark.
        about: What was measured, on what, against what; Markdown.
        headline: The figures that others quote.
        rows: The table behind them.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "headline": dict(headline),
        "rows": [dict(row) for row in rows],
        "about": about,
        "command": reproducing_command(name, sys.argv[1:]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch threads {torch.get_num_threads()}",
        "versions": package_versions(),
        "commit": _commit(),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    render_page()
    return path


def reproducing_command(name: str, options: Sequence[str]) -> str:
    """What reproduces a benchmark that was run with these options; folders are left for the reader to fill in.

    Args:
        name: The benchmark.
        options: Its command line, without the program.
    """
    shown = [
        "<folder>" if before == "--data" or os.path.isabs(option) else shlex.quote(option)
        for before, option in pairwise(["", *options])
    ]
    if not shown:
        return f"make bench NAME={name}"
    if shown == ["--data", "<folder>"]:
        return f"make bench NAME={name} DATA=<folder>"
    return " ".join(["python -m", f"benchmarks.{name}", *shown])


def render_page() -> None:
    """Write docs/benchmarks.md from the results."""
    parts = ["# Benchmarks\n\nGenerated from `benchmarks/results/`; do not edit. Ratios were taken in one run.\n"]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        headline = "\n".join(f"| `{key}` | {_cell(value)} |" for key, value in result["headline"].items())
        made = f"`{result['command']}`, {result['machine']}, commit {result['commit']}.\n"
        table = f"| headline | |\n|---|---|\n{headline}"
        parts.append("\n\n".join([f"## {path.stem}", result["about"], table, _table(result["rows"]), made]))
    PAGE.write_text("\n".join(parts), encoding="utf-8")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


if __name__ == "__main__":
    render_page()
    sys.exit(0)
