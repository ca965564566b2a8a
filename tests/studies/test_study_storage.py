from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

from nas_llm.errors import StudyError
from nas_llm.studies import open_storage
from nas_llm.studies._storage import batched, shown


def test_every_kind_opens_and_is_found_again(storage_url: str) -> None:
    name = f"found {os.urandom(4).hex()}"
    study = optuna.create_study(study_name=name, storage=open_storage(storage_url))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    again = optuna.load_study(study_name=name, storage=open_storage(storage_url))
    assert [trial.params for trial in again.trials] == [trial.params for trial in study.trials]


def test_bad_storages_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a journal\nat all\n")
    (tmp_path / "db").write_bytes(b"SQLite format 3\x00" + bytes(100))
    cases = {
        str(tmp_path): "is a directory",
        str(tmp_path / "text"): "is no journal of studies",
        str(tmp_path / "db"): f"write sqlite:///{tmp_path}/db",
        str(tmp_path / "text" / "below"): "cannot be opened",
        "sqlite:////proc/nowhere/x.db": "cannot be opened",
        "postgresql://me:secret@127.0.0.1:1/x": "cannot be opened",
        "nosuch://x": "cannot be opened",
        "grpc://localhost": "has no port",
    }
    for url, expected in cases.items():
        with pytest.raises(StudyError) as caught:
            open_storage(url)
        assert expected in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="grpcio is not installed")
    monkeypatch.setattr("nas_llm.studies._storage._PROXY_SECONDS", 0.3)
    with pytest.raises(StudyError, match="grpc://127.0.0.1:1 does not answer"):
        open_storage("grpc://127.0.0.1:1")


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("postgresql://me@host/db") == "postgresql://me@host/db"


def test_a_torn_line_is_cut_off_and_costs_nobody_anything(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    study = optuna.create_study(study_name="torn", storage=open_storage(path))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(whole.splitlines()[-1][:10])
    again = optuna.load_study(study_name="torn", storage=open_storage(path))
    assert len(again.trials) == 2
    again.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert path.read_bytes().startswith(whole)
    assert len(optuna.load_study(study_name="torn", storage=open_storage(path)).trials) == 3


def test_a_batch_is_written_at_once(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    storage = open_storage(path)
    study = optuna.create_study(study_name="batch", storage=storage)
    before = path.read_bytes()
    with batched(storage):
        for value in (1.0, 2.0, 3.0):
            study.add_trial(optuna.create_trial(value=value))
        assert path.read_bytes() == before
    assert [trial.value for trial in study.trials] == [1.0, 2.0, 3.0]
    study.add_trial(optuna.create_trial(value=4.0))
    assert len(optuna.load_study(study_name="batch", storage=open_storage(path)).trials) == 4
