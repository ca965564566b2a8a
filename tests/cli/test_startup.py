from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from nas_llm.cli import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "datasets", "pymoo", "plotly", "pandas", "optuna"} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_imports_nothing_heavy() -> None:
    done = start("--help")
    assert done.returncode == 0
    assert "Usage: nas-llm" in done.stdout
    assert done.stderr == "heavy: []\n"


def test_faults_of_a_definition_are_found_before_anything_heavy_is_imported() -> None:
    done = start("search", "tiny-llama", "--set", "seed=-1")
    assert done.returncode == 2
    assert done.stderr == "error: --set: seed = -1 should be greater than or equal to 0\nheavy: []\n"
