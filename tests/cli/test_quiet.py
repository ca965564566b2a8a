"""Commands keep other libraries quiet, which they take note of when they are imported and not later."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ASKED = """
import sys
from nas_llm.cli import main
try:
    main()
except SystemExit:
    pass
if "transformers" in sys.modules:
    import transformers
    print("verbosity", transformers.logging.get_verbosity())
"""


@pytest.mark.parametrize(
    "arguments", [("study",), ("study", "nix"), ("servable", "tiny-llama"), ("evaluate", "nix"), ("front", "nix")]
)
def test_transformers_is_told_before_it_is_imported(arguments: tuple[str, ...]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    command = [sys.executable, "-c", ASKED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    said = [line for line in done.stdout.splitlines() if line.startswith("verbosity")]
    assert said in ([], ["verbosity 40"])
