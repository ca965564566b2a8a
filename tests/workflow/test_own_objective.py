"""An objective of one's own, by name from a TOML file, to the end: the one that docs/problems.md shows."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import ConfigError, RunError, SpaceError
from nas_llm.events import CandidateEvaluated, Event
from nas_llm.search import History, normalised_hypervolume
from nas_llm.space import Genome
from nas_llm.workflow import export_points, load_genome, open_run, run_search

DOCUMENT = Path(__file__).parents[2] / "docs" / "problems.md"
OBJECTIVES = ("perplexity", "energy", "kv_cache_bytes")
TOML = """
name = "mine"
objectives = ["perplexity", "energy.py:Energy", "kv_cache"]
sequence_length = 128

[model]
source = "tiny-llama"
dtype = "float32"

[data]
window = 128
calibration = {tokens = 1024}
fitness = {tokens = 256}
held_out = {tokens = 256}

[space]
attn_ratio = [0.25, 1.0]
ffn_multiple = 16

[search]
population = 8
evaluations = 24
descent = {looks = 0}

[front]
size = 5

[reconstruction]
method = "closed_form"
"""


def documented_class() -> str:
    (block,) = re.findall(r"```python\n(.*?class Energy.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("mine")
    (directory / "energy.py").write_text(documented_class(), encoding="utf-8")
    (directory / "mine.toml").write_text(TOML, encoding="utf-8")
    return directory


def problem(folder: Path, *overrides: str) -> LoadedProblem:
    return load_problem(folder / "mine.toml", overrides=overrides)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    directory = folder / "run"
    run_search(problem(folder), run_dir=directory, shared_cache=False)
    return directory


def energy(genome: Genome) -> float:
    sublayers = int((genome.kv_groups > 0).sum() + (genome.ffn_channels > 0).sum())
    return 0.4 * sublayers + 0.01 * float(genome.ffn_channels.sum())


def test_the_front_is_what_no_evaluation_beats(run: Path) -> None:
    front = open_run(run).front
    assert (front.objectives, front.quality, front.prices) == (OBJECTIVES, "perplexity", OBJECTIVES[1:])
    with History(run / "history.sqlite", read_only=True) as history:
        rows = list(history.rows())
    assert len(rows) == 24
    for found in (*rows, *front.points, front.dense):
        assert found.objectives["energy"] == found.cost.value("energy") == energy(found.genome)
    values = [[row.objectives[name] for name in OBJECTIVES] for row in rows]
    for point in front.points:
        mine = [point.objectives[name] for name in OBJECTIVES]
        assert not any(other != mine and all(a <= b for a, b in zip(other, mine, strict=True)) for other in values)
    expected = normalised_hypervolume(values, OBJECTIVES, front.dense.objectives)
    assert front.hypervolume == pytest.approx(expected)


def test_a_resumed_run_ends_where_an_unbroken_one_does(folder: Path, run: Path) -> None:
    directory = folder / "parts"
    first = run_search(problem(folder, "search.evaluations=12"), run_dir=directory, shared_cache=False)
    assert first.evaluations == 12
    events: list[Event] = []
    stopped = run_search(
        problem(folder),
        run_dir=directory,
        resume=True,
        on_event=events.append,
        should_stop=lambda: any(isinstance(event, CandidateEvaluated) and event.evaluations > 16 for event in events),
        shared_cache=False,
    )
    assert (stopped.interrupted, stopped.evaluations) == (True, 17)
    resumed = run_search(problem(folder), run_dir=directory, resume=True, shared_cache=False)
    assert resumed.front == open_run(run).front
    with pytest.raises(RunError, match=r"started with another problem: objectives \(was .*'energy.py:Energy'"):
        run_search(
            problem(folder, 'objectives=["perplexity", "params"]'), run_dir=directory, resume=True, shared_cache=False
        )


def test_files_of_a_run_show_it_with_its_title_and_unit(run: Path) -> None:
    front = open_run(run).front
    front.to_csv(run.parent / "front.csv")
    with (run.parent / "front.csv").open(encoding="utf-8") as file:
        written = [float(row["energy"]) for row in csv.DictReader(file)]
    assert written == [point.cost.further["energy"] for point in (front.dense, *front.points)]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert '<th scope="col">Energy per token</th>' in page
    assert "energy per token (mJ)" in page
    assert f"<td>{front.record('energy').show(energy(front.dense.genome))}</td>" in page
    assert "mJ" in front.record("energy").show(1.0)
    data = json.loads((run / "front.json").read_text(encoding="utf-8"))
    assert data["labels"] == {"energy": {"title": "energy per token", "unit": "mJ"}}
    assert type(front).from_json(front.to_json()) == front


def test_a_front_is_read_where_the_class_is_not_at_hand(run: Path) -> None:
    """In a fresh process that knows no class: nothing is loaded, the table says what the front says."""
    program = (
        "import sys\n"
        "from nas_llm.cli import main\n"
        "try:\n    main()\n"
        "finally:\n    print([name for name in sys.modules if name.startswith('nas_llm_plugin')], file=sys.stderr)\n"
    )
    arguments = [sys.executable, "-c", program, "front", str(run)]
    wide = os.environ | {"COLUMNS": "200"}
    shown = subprocess.run(arguments, capture_output=True, text=True, timeout=180, check=True, env=wide)
    assert shown.stderr.endswith("[]\n")
    assert "energy per token" in shown.stdout
    front = open_run(run).front
    # Both ways of showing are the same here: the class has none of its own.
    assert front.record("energy").show(front.dense.cost.further["energy"]) in shown.stdout


def test_a_point_is_exported(run: Path) -> None:
    opened = open_run(run)
    point = opened.front.points[1]
    (record,) = export_points(opened, [point], out=run.parent / "exports")
    assert load_genome(record.path) == point.genome


def test_the_dashboard_shows_it(folder: Path) -> None:
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    import optuna
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    from nas_llm.studies import SearchMirror, open_storage

    directory = folder / "mirrored"
    loaded = problem(folder, "search.evaluations=8")
    mirror = SearchMirror(loaded.problem, directory)
    mirror.finish(run_search(loaded, run_dir=directory, on_event=mirror))
    study = optuna.load_study(study_name="mirrored", storage=open_storage(directory / "study.journal"))
    assert study.metric_names == list(OBJECTIVES)
    trials = study.get_trials()
    assert len(trials) == 8
    assert all(trial.user_attrs["energy per token (mJ)"] == trial.values[1] for trial in trials)
    plots = get_plotly_graph_objects(study._storage.get_study_system_attrs(study._study_id))
    assert "energy per token (mJ)" in plots["pareto-front"]


def test_a_class_that_is_gone_or_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(TOML, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"plugin 'energy.py' cannot be used: there is no file {tmp_path}"):
        load_problem(tmp_path / "mine.toml")
    nothing = documented_class().replace("return 0.4", "return 0.0 * 0.4").replace("+ 0.01", "+ 0.0")
    (tmp_path / "energy.py").write_text(nothing, encoding="utf-8")
    with pytest.raises(SpaceError, match="objective 'energy' gives 0 for the dense model"):
        run_search(load_problem(tmp_path / "mine.toml"), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
