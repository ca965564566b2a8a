"""Looking at storages: what is not there is named and not made, and figures agree with the dashboard."""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
from pathlib import Path

import optuna
import pytest
from typer.testing import CliRunner

from nas_llm.cli import app
from nas_llm.config import load_problem
from nas_llm.errors import StudyError
from nas_llm.studies import export_html, open_storage, serve_dashboard
from nas_llm.workflow import run_search


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    "url", ["sqlite:///new.db", "sqlite:///deep/new.db", "journal://new.journal", "journal://deep/new"]
)
@pytest.mark.parametrize("export", [True, False])
def test_a_storage_that_is_not_there_is_not_made(
    url: str, export: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if export:
        code, errors = command("dashboard", url, "--export", "html")
        assert code == 2
        assert errors == f"error: storage {errors.split()[2]} holds no study: there is nothing yet; check the name\n"
    else:
        pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
        with pytest.raises(StudyError, match="holds no study"):
            serve_dashboard(url, port=0, on_ready=lambda address: pytest.fail(f"it is served at {address}"))
    assert list(tmp_path.iterdir()) == []


def test_a_database_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE mine (x)")
    (tmp_path / "empty.db").touch()
    for name in ("mine.db", "empty.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StudyError, match="holds no study"):
            export_html(f"sqlite:///{tmp_path}/{name}", path=tmp_path / "page.html")
        assert (tmp_path / name).read_bytes() == before
    assert not (tmp_path / "page.html").exists()


def test_a_servers_empty_database_is_left_empty(postgresql_url: str) -> None:
    import sqlalchemy

    server = sqlalchemy.create_engine(postgresql_url.replace("postgresql://", "postgresql+psycopg://"))
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE DATABASE nothing")
    empty = f"{postgresql_url.rpartition('/')[0]}/nothing"
    with pytest.raises(StudyError, match="holds no study"):
        open_storage(empty, create=False)
    engine = sqlalchemy.create_engine(empty.replace("postgresql://", "postgresql+psycopg://"))
    assert sqlalchemy.inspect(engine).get_table_names() == []
    engine.dispose()


def test_what_is_there_is_opened(storage_url: str) -> None:
    optuna.create_study(study_name="there", storage=open_storage(storage_url))
    found = open_storage(storage_url, create=False).get_all_studies()
    assert "there" in {study.study_name for study in found}


def test_a_run_without_a_mirror_names_what_makes_it_and_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was searched before Optuna was installed."""
    monkeypatch.chdir(tmp_path)
    small = ("search.population=8", "search.evaluations=16", "data.calibration.tokens=1024", "data.fitness.tokens=256")
    run_search(load_problem("tiny-llama", overrides=list(small)), run_dir=tmp_path / "runs" / "my run")
    code, errors = command("dashboard", "my run", "--export", "html")
    assert code == 2
    assert errors.startswith("error: runs/my run has no study.journal: its search was run without the extra")
    assert errors.count("\n") == 1
    mend = re.search(r"(nas-llm search .*? --resume)", errors)
    assert mend is not None
    assert command(*shlex.split(mend[1])[1:])[0] == 0
    assert command("dashboard", "my run", "--export", "html")[0] == 0
    study = optuna.load_study(study_name="my run", storage=open_storage(tmp_path / "runs" / "my run" / "study.journal"))
    assert len(study.trials) == 16
    assert "16 trials" in (tmp_path / "study.html").read_text(encoding="utf-8")


def test_a_folder_that_is_no_run_is_not_told_to_resume(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"has no study\.journal: name a run directory") as caught:
        export_html(str(tmp_path), path=tmp_path / "page.html")
    assert "--resume" not in str(caught.value)


def shown_importances(page: Path, name: str) -> dict[str, float]:
    text = page.read_text(encoding="utf-8")
    text = text[text.index(f"What {name} depends on") :]
    keys, values = re.search(r'"y":(\[[^]]*\]),"type":"bar"', text), re.search(r'"x":(\[[^]]*\])', text)
    assert keys is not None
    assert values is not None
    return dict(zip(json.loads(keys[1]), json.loads(values[1]), strict=True))


@pytest.mark.parametrize("directions", [("maximize", "minimize"), ("minimize", "maximize"), ("maximize",)])
def test_importances_explain_good_values_as_in_the_dashboard(directions: tuple[str, ...], tmp_path: Path) -> None:
    from optuna_dashboard._importance import get_param_importance_from_trials_cache
    from optuna_dashboard._inmemory_cache import InMemoryCache

    storage = open_storage(tmp_path / "j")
    study = optuna.create_study(
        storage=storage, directions=list(directions), sampler=optuna.samplers.RandomSampler(seed=1)
    )
    names = ["hypervolume", "seconds"][: len(directions)]
    study.set_metric_names(names)

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        a, b = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        # Good values depend on a alone, bad ones on b.
        good = a if a > 0.5 else -10 * b
        return tuple(good if direction == "maximize" else -good for direction in directions)

    study.optimize(objective, n_trials=120)
    export_html(str(tmp_path / "j"), path=tmp_path / "page.html")
    for place, name in enumerate(names):
        page = shown_importances(tmp_path / "page.html", name)
        assert page["a"] > 0.9
        rows = get_param_importance_from_trials_cache(InMemoryCache(), storage, study._study_id, place, study.trials)
        assert page == pytest.approx({row["name"]: row["importance"] for row in rows})
