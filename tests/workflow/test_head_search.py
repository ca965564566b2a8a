"""A search inside heads, as a user runs it: killed and resumed, finished, exported, gone on from, looked at."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import RunError
from nas_llm.evaluation import load
from nas_llm.report import architecture_figure
from nas_llm.search import History
from nas_llm.space import Genome
from nas_llm.studies.mirror._trials import mirrored_trial
from nas_llm.workflow import export_points, open_run, run_search

SMALL = (
    "search.population=8",
    "search.evaluations=14",
    "search.target_ratios=[0.8, 0.6]",
    "search.descent={looks=2, tokens=256, step_ratio=0.1}",
    "search.operators.mask_probability=0.5",
    "space.min_attn_layers=4",
    'fitness.weights="reconstructed"',
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=4",
)
INSIDE = ('space.attention=["kv_group", "head_dim_split"]', "space.rotate_values=true")


def _problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, *overrides])


def _history(run: Path) -> list[tuple[object, ...]]:
    with History(run / "history.sqlite", read_only=True) as history:
        return [(r.ordinal, r.generation, r.digest, tuple(r.objectives.values()), r.cost) for r in history.rows()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "inside"
    run_search(_problem(*INSIDE), run_dir=directory, shared_cache=False)
    return directory


def test_a_search_that_is_killed_again_and_again_ends_as_the_unbroken_one(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from nas_llm.cli import main; main()", "search", "tiny-llama", "--run", "r"]
    command += [text for override in (*SMALL, *INSIDE) for text in ("--set", override)]
    command += ["--no-study"]
    directory, rng, killed = tmp_path / "r", random.Random(3), 0
    for _ in range(40):
        more = ["--resume"] if (directory / "problem.toml").is_file() else []
        process = subprocess.Popen([*command, *more], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        steps = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) if more else 0
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and killed < 3:
            now = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
            if (directory / "problem.toml").is_file() and now > steps + rng.randrange(2000, 30000):
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.02)
        _, said = process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, said.decode()
    assert killed >= 2
    assert _history(directory) == _history(run)


def test_its_points_are_models_of_the_size_that_was_counted(run: Path, tmp_path: Path) -> None:
    opened = open_run(run)
    point = min(opened.front.points, key=lambda point: point.cost.inheriting_ratio)
    (record,) = export_points(opened, [point], out=tmp_path / "out")
    model, tokenizer = load(Path(record.path))
    assert sum(weight.numel() for weight in model.parameters()) == point.cost.params
    cache = model(tokenizer("Once upon", return_tensors="pt").input_ids, use_cache=True).past_key_values
    there = [layer for layer, groups in zip(cache.layers, point.genome.kv_groups, strict=True) if groups]
    held = sum(part.numel() for layer in there for part in (layer.keys, layer.values))
    assert held * 2 == point.cost.kv_cache_bytes * cache.get_seq_length()
    assert record.held_out_perplexity == pytest.approx(point.held_out_perplexity, rel=0.3)


def test_what_a_person_sees_has_the_widths_of_heads(run: Path, tmp_path: Path) -> None:
    front = open_run(run).front
    figure = architecture_figure(front)
    assert [trace.name for trace in figure.data] == ["q and k", "v and o", "FFN"]
    point = front.points[0]
    assert set(point.layers[0]) == {"kv_groups", "qk_channels", "vo_channels", "ffn_channels"}
    front.to_csv(tmp_path / "front.csv")
    row = list(csv.DictReader((tmp_path / "front.csv").open()))[1]
    assert row["vo_channels"].split() == [str(layer["vo_channels"]) for layer in point.layers]
    with History(run / "history.sqlite", read_only=True) as history:
        trial = mirrored_trial(next(iter(history.rows())), open_run(run).problem)
    assert {"q and k kept", "v and o kept", "KV groups"} <= set(trial.params)


def test_an_earlier_search_of_whole_groups_starts_one_inside_heads(run: Path, tmp_path: Path) -> None:
    quick = ("search.descent.looks=0", "search.evaluations=10")
    run_search(_problem(*quick), run_dir=tmp_path / "groups", shared_cache=False)
    points = open_run(tmp_path / "groups").front.points
    source = f"search.start_from=['{tmp_path / 'groups'}']"
    run_search(_problem(*INSIDE, *quick, source), run_dir=tmp_path / "next", shared_cache=False)
    with History(tmp_path / "next" / "history.sqlite", read_only=True) as history:
        costs = {row.cost.block_params for row in history.rows(up_to=8)}
    assert {point.cost.block_params for point in points} <= costs
    with pytest.raises(RunError, match=r"start_from names subnets of attention mode head_dim_split, which this search"):
        run_search(_problem(*quick, f"search.start_from=['{run}']"), run_dir=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_the_masks_of_a_front_are_of_the_searched_mode(run: Path) -> None:
    front = open_run(run).front
    assert {point.genome.layout.mode for point in front.points} == {"head_dim_split"}
    assert all(Genome.from_bytes(point.genome.to_bytes()) == point.genome for point in front.points)
