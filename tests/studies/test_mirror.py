"""A search and its mirror."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import optuna.visualization as draw
import pytest
from optuna.artifacts import FileSystemArtifactStore
from optuna.trial import TrialState

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import StudyError
from nas_llm.events import Event, Notice
from nas_llm.search import CostConstraints, History
from nas_llm.space import Genome
from nas_llm.studies import SearchMirror, open_storage
from nas_llm.studies.mirror._plots import PLOTS, live_front, save_plots
from nas_llm.studies.mirror._trials import mirrored_trial
from nas_llm.workflow import RunSummary, run_search

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
SMALL = (
    "search.population=8",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=5",
)


def problem(*overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, "search.evaluations=24", *overrides])


def searched(
    loaded: LoadedProblem, run_dir: Path, *, url: str | None = None, resume: bool = False
) -> tuple[SearchMirror, RunSummary]:
    mirror = SearchMirror(loaded.problem, run_dir, url=url)
    summary = run_search(loaded, run_dir=run_dir, resume=resume, on_event=mirror)
    mirror.finish(summary)
    return mirror, summary


def study_of(url: Path | str, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(url))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "demo"
    searched(problem(), directory)
    return directory


def test_every_genome_is_a_trial(run: Path) -> None:
    study = study_of(run / "study.journal", "demo")
    with History(run / "history.sqlite", read_only=True) as history:
        rows = list(history.rows())
    assert study.metric_names == ["perplexity", "macs_per_token"]
    assert len(study.trials) == len(rows) == 24
    constraints = CostConstraints(problem().problem.constraints)
    for trial, row in zip(study.trials, rows, strict=True):
        assert trial.state == TrialState.COMPLETE
        assert trial.values == [row.objectives["perplexity"], row.objectives["macs_per_token"]]
        assert trial.constraints["min_ratio"] == pytest.approx(constraints.violations(row.cost)[0])
        assert trial.constraints["min_ratio"] <= 0
        attributes = trial.user_attrs
        assert (attributes["ordinal"], attributes["generation"], attributes["digest"]) == (
            row.ordinal,
            row.generation,
            row.digest,
        )
        assert attributes["kv_groups"] == row.genome.kv_groups.tolist()
        assert attributes["ffn_channels"] == row.genome.ffn_channels.tolist()
        assert trial.params["KV groups"] == row.genome.kv_groups.sum()
    # The masks themselves are in the artifacts only.
    assert rows[0].genome.to_bytes().hex() not in (run / "study.journal").read_text()


def test_plots_note_and_artifacts_are_there(run: Path) -> None:
    from optuna_dashboard import get_note
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    storage = open_storage(run / "study.journal")
    study = optuna.load_study(study_name="demo", storage=storage)
    attributes = storage.get_study_system_attrs(study._study_id)
    plots = get_plotly_graph_objects(attributes)
    assert set(plots) == set(PLOTS)
    assert all(len(text) < 200_000 and json.loads(text)["data"] for text in plots.values())
    assert 'source = "tiny-llama"' in get_note(study)
    store = FileSystemArtifactStore(run / "artifacts")
    names = {}
    for key, text in attributes.items():
        if "artifacts:" in key and (meta := json.loads(text)):
            names[meta["filename"]] = (key, store.open_reader(meta["artifact_id"]).read())
    assert {"report.html", "front.json", "p01-genome.bin"} <= set(names)
    front = json.loads(names["front.json"][1])
    assert len([name for name in names if name.endswith("genome.bin")]) == len(front["points"])
    key, data = names["p01-genome.bin"]
    trial = next(trial for trial in study.trials if key.startswith(f"dashboard:artifacts:{trial._trial_id}:"))
    assert Genome.from_bytes(data).digest() == trial.user_attrs["digest"]


def test_optunas_own_figures_take_the_mirror(run: Path) -> None:
    study = study_of(run / "study.journal", "demo")
    assert draw.plot_pareto_front(study).data
    dense = study.trials[0].values
    history = list(draw.plot_hypervolume_history(study, reference_point=[dense[0] * 20, dense[1] * 1.01]).data[0].y)
    assert history == sorted(history)
    assert history[-1] > 0
    importances = draw.plot_param_importances(study, target=lambda trial: trial.values[0], target_name="perplexity")
    assert "KV groups" in importances.data[0].y


def test_a_resumed_search_fills_the_gap_and_keeps_one_study(run: Path, tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    shutil.copytree(run, directory)
    # Evaluations that were made while nobody mirrored.
    run_search(problem("search.evaluations=28"), run_dir=directory, resume=True)
    searched(problem("search.evaluations=32"), directory, resume=True)
    storage = open_storage(directory / "study.journal")
    assert [study.study_name for study in storage.get_all_studies()] == ["demo"]
    trials = study_of(directory / "study.journal", "demo").trials
    assert [trial.user_attrs["ordinal"] for trial in trials] == list(range(1, 33))
    # Only the artifacts of the last end are left.
    attributes = storage.get_study_system_attrs(0)
    names = [meta["filename"] for key, text in attributes.items() if "artifacts:" in key and (meta := json.loads(text))]
    assert sorted(name for name in names if "genome" not in name) == ["front.json", "report.html"]
    assert len(list((directory / "artifacts").iterdir())) == len(names)


def test_runs_share_a_storage_under_names_of_their_own(storage_url: str, tmp_path: Path) -> None:
    for folder, seed in (("a", 1), ("b", 2), ("c", 1)):
        loaded = problem("search.evaluations=8", f"seed={seed}")
        searched(loaded, tmp_path / folder / "same", url=storage_url)
    storage = open_storage(storage_url)
    sizes = {
        s.study_name: len(storage.get_all_trials(s._study_id))
        for s in storage.get_all_studies()
        if s.study_name.startswith("same")
    }
    # The third is the first once more: the same problem, seed and text have the same history.
    assert sizes == {"same": 8, "same-2": 8}
    assert not (tmp_path / "a" / "same" / "study.journal").exists()


def test_a_storage_that_fails_does_not_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Event] = []
    loaded = problem("search.evaluations=16")
    mirror = SearchMirror(loaded.problem, tmp_path / "r", on_event=told.append)
    monkeypatch.setattr("nas_llm.studies._journal.MendingJournal.append_logs", _no_room)
    summary = run_search(loaded, run_dir=tmp_path / "r", on_event=mirror)
    mirror.finish(summary)
    assert summary.front is not None
    # A small search may be no better than a uniform model, and says so.
    said = [event.message for event in told if isinstance(event, Notice) and "uniform" not in event.message]
    assert said == [
        f"the search is no longer mirrored into its study: storage {tmp_path}/r/study.journal: no room"
    ] or "no room" in str(told)
    assert len(said) == 1
    with pytest.raises(StudyError, match="cannot be opened"):
        SearchMirror(loaded.problem, tmp_path / "s", url="sqlite:////proc/nowhere/x.db")


def _no_room(*_: object) -> None:
    raise OSError("no room")


def test_a_broken_subnet_has_no_values(run: Path) -> None:
    with History(run / "history.sqlite", read_only=True) as history:
        row = next(iter(history.rows()))
    broken = replace(row, objectives={**row.objectives, "perplexity": float("inf")})
    trial = mirrored_trial(broken, problem().problem)
    assert trial.state == TrialState.FAIL
    assert trial.values is None


def test_plots_of_a_long_search_of_a_deep_model_stay_small(tmp_path: Path) -> None:
    import numpy as np
    from example_fronts import COST_MODEL, genome
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    from nas_llm.search import Evaluation

    rng, rows = np.random.default_rng(0), []
    for ordinal in range(1, 3001):
        masks = genome(int(rng.integers(1, 11)) * 16)
        cost = COST_MODEL(masks)
        values = {"perplexity": float(10 + 90 * rng.random()), "macs_per_token": float(cost.macs_per_token)}
        rows.append(
            Evaluation(
                ordinal=ordinal,
                generation=1 + ordinal // 50,
                digest=f"{ordinal:032x}",
                genome_bytes=masks.to_bytes(),
                objectives=values,
                cost=cost,
                seconds=1.0,
            )
        )
    front = live_front(problem().problem, rows, {"perplexity": 9.0, "macs_per_token": 5e5}, 0.5)
    storage = open_storage(tmp_path / "j")
    study = optuna.create_study(study_name="long", storage=storage, directions=["minimize"] * 2)
    save_plots(study, front, rows)
    plots = get_plotly_graph_objects(storage.get_study_system_attrs(study._study_id))
    assert all(len(text) < 200_000 for text in plots.values())
