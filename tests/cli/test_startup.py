from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from example_fronts import example_front

from nas_llm.config import load_problem
from nas_llm.runs import Resolved, write_problem

PROGRAM = """
import sys
from nas_llm.cli import main
try:
    main()
finally:
    heavy = {"torch", "transformers", "datasets", "pymoo", "plotly", "pandas", "optuna", WORDS} & set(sys.modules)
    print("heavy:", sorted(heavy), file=sys.stderr)
"""
COMMAND = "from nas_llm.cli import main; main()"


def start(*arguments: str, also: Sequence[str] = (), cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("WORDS", ", ".join(map(repr, also)))
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=cwd
    )


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with a finished run in ``runs/mine``."""
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    resolved = Resolved(base_dir=".", model_revision="sha256:0", data={}, device="cpu", dtype="float32", versions={})
    write_problem(run, load_problem("tiny-llama").problem, resolved)
    (run / "front.json").write_text(example_front().to_json(), encoding="utf-8")
    return tmp_path


def test_help_imports_nothing_heavy() -> None:
    done = start("--help", also=("rich", "numpy", "pydantic", "importlib.metadata"))
    assert done.returncode == 0
    assert "Usage: nas-llm" in done.stdout
    assert done.stderr == "heavy: []\n"


def test_faults_of_a_definition_are_found_before_anything_heavy_is_imported() -> None:
    done = start("search", "tiny-llama", "--set", "seed=-1")
    assert done.returncode == 2
    assert done.stderr == "error: --set: seed = -1 should be greater than or equal to 0\nheavy: []\n"


def test_a_front_is_shown_without_the_definition_and_what_reads_it(workplace: Path) -> None:
    for more in ((), ("--point", "knee"), ("--max-macs", "0.2M"), ("--csv", "front.csv")):
        # typer itself loads pydantic; the definition is another matter.
        done = start("front", "mine", *more, also=("nas_llm.config", "sqlite3"), cwd=workplace)
        assert done.returncode == 0, done.stderr
        assert done.stderr == "heavy: []\n"
        assert "held-out ppl" in done.stdout
    code = "import sys; from pathlib import Path; from nas_llm.runs import open_front; open_front(Path('runs/mine'));"
    code += "print(sorted({'torch', 'pymoo', 'pydantic', 'rich', 'nas_llm.config'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=workplace)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("problems",), 0, ""),
        (("problems", "tiny-llama", "--resolved"), 0, ""),
        (("problems", "--check", "nix"), 2, 'error: problem "nix" does not exist'),
        (("front", "nix"), 2, "error: no run 'nix'; runs here: runs/mine\n"),
        (("export", "mine", "--point", "p77"), 2, "error: the front has no point 'p77'"),
        (("reconstruct", "nix"), 2, "error: no run 'nix'; runs here: runs/mine\n"),
        (("evaluate", "m", "--tasks", "piqa,"), 2, "error: --tasks 'piqa,' has an empty name"),
        (("compare", "m"), 2, "error: there is nothing to compare m with; name two or more models or runs"),
        (("servable", "tiny-lama"), 2, 'error: problem "tiny-lama" does not exist; did you mean'),
        (("search", "tiny-llama", "--run", "runs/mine"), 2, "error: runs/mine holds a run; continue it with --resume"),
    ],
)
def test_names_are_checked_before_anything_heavy_is_imported(
    workplace: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = start(*arguments, cwd=workplace)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert done.stderr.endswith("heavy: []\n")


def test_studies_are_listed_without_torch() -> None:
    done = start("study")
    assert done.returncode == 0
    for name in ("torch", "transformers", "plotly", "optuna"):
        assert f"'{name}'" not in done.stderr


def test_a_front_takes_little_more_than_numpy_and_rich(workplace: Path) -> None:
    """CPU seconds of whole processes: it took five while it loaded torch."""

    def seconds(*words: str) -> float:
        best = float("inf")
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run([sys.executable, "-c", *words], check=True, cwd=workplace, stdout=subprocess.DEVNULL)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
            best = min(best, spent)
        return best

    assert seconds(COMMAND, "front", "mine") - seconds("import numpy, rich") < 1.0


def test_others_are_quiet_unless_the_person_says_otherwise() -> None:
    code = (
        "import os; from nas_llm.cli.terminal import quiet_libraries; quiet_libraries(); "
        "print(os.environ['TQDM_DISABLE'], os.environ['TRANSFORMERS_VERBOSITY'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"TQDM_DISABLE": "0"},
    )
    assert done.stdout == "0 error\n"
