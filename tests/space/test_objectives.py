from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_llm.config import COST_OBJECTIVES, QUALITY_OBJECTIVES, Problem, load_objectives, load_problem
from nas_llm.errors import ConfigError
from nas_llm.space import (
    OBJECTIVES,
    CostObjective,
    Genome,
    Objective,
    is_quality,
    objective,
    plain_cost,
    the_quality,
)
from nas_llm.space.objectives import BUILT_IN, WORST_LOG

CALL = "    def __call__(self, genome):\n        return 1.0\n"
SCALES = st.sampled_from([*BUILT_IN, plain_cost("unheard_of")])
POSITIVE = st.floats(1e-6, 1e12)


@given(SCALES, POSITIVE, POSITIVE)
def test_raw_undoes_scaled(record: Objective, value: float, dense: float) -> None:
    value = min(value, WORST_LOG) if record.scale == "linear" else value
    assert record.raw(record.scaled(value, dense), dense) == pytest.approx(value, rel=1e-9)


@given(SCALES, POSITIVE, POSITIVE, POSITIVE)
def test_scales_keep_the_order(record: Objective, one: float, other: float, dense: float) -> None:
    low, high = sorted((one, other))
    assert record.scaled(low, dense) <= record.scaled(high, dense)


@given(st.sampled_from([known for known in BUILT_IN if known.measured]), st.floats(0.0))
def test_broken_subnets_are_bad_and_finite(record: Objective, value: float) -> None:
    assert math.isfinite(record.scaled(value, 1.0))
    for broken in (math.inf, math.nan):
        assert record.scaled(broken, 1.0) == WORST_LOG


def test_the_dense_model_counts_one_in_every_cost() -> None:
    for name in COST_OBJECTIVES:
        assert objective(name).scaled(42.0, 42.0) == 1.0


def test_public_tables_of_names_stay() -> None:
    assert QUALITY_OBJECTIVES == ("perplexity", "kl", "margin", "fitness")
    assert COST_OBJECTIVES == ("macs_per_token", "params", "block_params", "kv_cache_bytes", "latency")
    assert [is_quality(name) for name in (*QUALITY_OBJECTIVES, *COST_OBJECTIVES)] == [True] * 4 + [False] * 5


@pytest.mark.parametrize(
    ("name", "value", "shown", "label"),
    [
        ("perplexity", 12.345, "12.35", "perplexity"),
        ("perplexity", 123456.0, "1.235e+05", "perplexity"),
        ("kl", 0.123456, "0.1235", "KL divergence from the dense model (nats per token)"),
        ("margin", 1.23456, "1.2346", "loss of the right answer against the wrong ones (nats per question)"),
        ("fitness", 1.23456, "1.2346", "weighted sum of losses"),
        ("macs_per_token", 854016.0, "854.02k", "MACs per token"),
        ("block_params", 608256.0, "608.26k", "parameters in decoder blocks"),
        ("kv_cache_bytes", 1152.0, "1.15k", "KV-cache bytes per token"),
        ("latency", 0.0123, "12.3 ms", "predicted latency (seconds)"),
        ("unheard_of", 1500.0, "1.50k", "unheard_of"),
    ],
)
def test_records_know_how_values_are_told(name: str, value: float, shown: str, label: str) -> None:
    record = objective(name)
    assert (record.show(value), record.label) == (shown, label)


def test_aliases_and_unknown_names() -> None:
    assert objective("kv_cache") is objective("kv_cache_bytes")
    assert (objective("unheard_of").kind, objective("unheard_of").scale) == ("cost", "share")
    assert the_quality(["params", "kl"]) == "kl"
    with pytest.raises(ConfigError, match="exactly one of perplexity, kl, margin, fitness, got \\['params', 'x'\\]"):
        the_quality(["params", "x"])


def test_names_from_files_of_others_load_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('loaded')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for name in ("trap.py:Trap", "trap:Trap"):
        assert (objective(name).title, objective(name).model) == (name, None)
    assert "trap" not in sys.modules


def write(path: Path, body: str) -> str:
    path.write_text(f"from nas_llm.space import CostObjective\n\n\n{body}", encoding="utf-8")
    return path.name


def test_references_are_kept_as_written_and_named_by_their_record(tmp_path: Path) -> None:
    file = write(
        tmp_path / "energy.py",
        """class Energy(CostObjective):
    name = "test_energy"
    title = "energy per token"
    unit = "mJ"

    def __call__(self, genome):
        return 1.0
""",
    )
    path = tmp_path / "mine.toml"
    definition = f'objectives = ["{file}:Energy", "kl", "kv_cache"]\nname = "mine"\n[model]\nsource = "tiny-llama"\n'
    path.write_text(definition, encoding="utf-8")
    problem = load_problem(path).problem
    assert problem.objectives == (f"{file}:Energy", "kl", "kv_cache_bytes")
    assert problem.objective_names == ("test_energy", "kl", "kv_cache_bytes")
    assert (problem.quality, problem.prices, problem.timed) == ("kl", ("test_energy", "kv_cache_bytes"), False)
    record = objective("test_energy")
    assert record is OBJECTIVES.get(f"{file}:Energy")
    assert (record.label, record.head) == ("energy per token (mJ)", "energy per token")
    assert record.show(1234.0) == "1.23k mJ"
    assert Problem.model_validate(problem.model_dump()) == problem


def test_the_same_reference_in_another_folder_is_another_class(tmp_path: Path) -> None:
    for folder, title in (("one", "first"), ("two", "second")):
        (tmp_path / folder).mkdir()
        body = f'class Mine(CostObjective):\n    name = "test_mine"\n    title = "{title}"\n{CALL}'
        write(tmp_path / folder / "mine.py", body)
        (record,) = load_objectives(["mine.py:Mine"], base_dir=tmp_path / folder)
        assert record.title == objective("test_mine").title == title
    (again,) = load_objectives(["mine.py:Mine"], base_dir=tmp_path / "one")
    assert again.title == objective("test_mine").title == "first"


def test_files_behind_set_are_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    write(here / "mine.py", 'class Mine(CostObjective):\n    name = "test_here"\n    __call__ = lambda *_: 1.0\n')
    (there / "p.toml").write_text('name = "p"\n[model]\nsource = "tiny-llama"\n', encoding="utf-8")
    monkeypatch.chdir(here)
    problem = load_problem(there / "p.toml", overrides=['objectives=["kl", "mine.py:Mine"]']).problem
    assert problem.objectives == ("kl", f"{here / 'mine.py'}:Mine")
    assert problem.objective_names == ("kl", "test_here")


def test_registered_objectives_are_named_plainly() -> None:
    class Registered(CostObjective):
        name: ClassVar[str] = "test_registered"

        def __call__(self, genome: Genome) -> float:
            return 1.0

    OBJECTIVES.register("test_registered")(Registered)
    problem = load_problem("tiny-llama", overrides=['objectives=["perplexity", "test_registered"]']).problem
    assert problem.objective_names == ("perplexity", "test_registered")
    with pytest.raises(ConfigError, match=r'"test_registred" is not known; did you mean "test_registered"\?'):
        load_problem("tiny-llama", overrides=['objectives=["perplexity", "test_registred"]'])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("class Mine:\n    name = 'x'\n" + CALL, "is no subclass of nas_llm.space.CostObjective"),
        ("Mine = 5\n", "is no subclass of nas_llm.space.CostObjective"),
        ("class Mine(CostObjective):\n" + CALL, 'has no name; give the class an attribute name = "..."'),
        ("class Mine(CostObjective):\n    name = 'a,b'\n" + CALL, "has the name 'a,b'; use letters, digits and _"),
        ("class Mine(CostObjective):\n    name = 'kl'\n" + CALL, "has the name 'kl', which the package uses itself"),
        ("class Mine(CostObjective):\n    name = 'kv_cache'\n" + CALL, "'kv_cache', which the package uses itself"),
        ("class Mine(CostObjective):\n    name = 'inheriting_ratio'\n" + CALL, "which the package uses itself"),
        ("class Mine(CostObjective):\n    name = 'x'\n", "does not say what a genome costs"),
        (
            "class Mine(CostObjective):\n    name = 'x'\n    def show(self, value):\n        return ''\n" + CALL,
            r"has a show\(value\) that fails: TypeError",
        ),
        (
            "class Mine(CostObjective):\n    name = 'x'\n    show = staticmethod(lambda value: value)\n" + CALL,
            r"has a show\(value\) that gives float, not a string",
        ),
        ("raise ValueError('no chip here')\n", "plugin 'mine.py' cannot be used: ValueError: no chip here"),
        ("class Other(CostObjective):\n    name = 'x'\n" + CALL, "has no 'Mine'"),
    ],
)
def test_classes_that_are_no_objectives_are_refused_in_one_line(tmp_path: Path, body: str, said: str) -> None:
    write(tmp_path / "mine.py", body)
    with pytest.raises(ConfigError, match=said) as refused:
        load_objectives(["kl", "mine.py:Mine"], base_dir=tmp_path)
    assert "mine.py" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        (
            ["params", "mine.py:Mine"],
            r"exactly one of perplexity, kl, margin, fitness, got \['params', 'mine.py:Mine'\]; a class of",
        ),
        (["mine.py:Mine", "mine.py:Mine", "kl"], "at least two different ones"),
        (["kl", "mine.py:Mine", "mine.py:Twin"], "'mine.py:Mine' and 'mine.py:Twin' both have the name 'test_twin'"),
        (["kl", "none.py:Mine"], "plugin 'none.py' cannot be used: there is no file"),
        (["kl", "mine.py:"], "not of the right form"),
        (["kl", 5], r"objectives\[1\] = 5 should be a valid string"),
    ],
)
def test_objectives_that_do_not_go_together(tmp_path: Path, objectives: list[Any], said: str) -> None:
    twins = "".join(f"class {name}(CostObjective):\n    name = 'test_twin'\n{CALL}" for name in ("Mine", "Twin"))
    write(tmp_path / "mine.py", twins)
    listed = str(objectives).replace("'", '"')
    path = tmp_path / "p.toml"
    path.write_text(f'objectives = {listed}\nname = "p"\n[model]\nsource = "tiny-llama"\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        load_problem(path)


def test_the_space_needs_neither_config_nor_torch() -> None:
    program = (
        "import sys, nas_llm.space; print(sorted({'torch', 'pydantic', 'pymoo', 'nas_llm.config'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
