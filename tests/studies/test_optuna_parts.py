"""The private parts of Optuna and optuna-dashboard that are used, and the versions that they were looked at in."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.artifacts import _upload
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.study import _constrained_optimization
from optuna_dashboard.artifact import _backend
from packaging.requirements import Requirement

from nas_llm.studies import _optuna as parts
from nas_llm.studies import open_storage

LOOKED_AT = {"optuna": "5.0.0", "optuna-dashboard": "0.21.0"}
ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "nas_llm" / "studies"
OTHERS = ("optuna", "optuna_dashboard")


def requirements() -> list[Requirement]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return [Requirement(text) for extra in ("studies", "dev") for text in extras[extra]]


@pytest.mark.parametrize("name", LOOKED_AT)
def test_these_versions_were_looked_at(name: str) -> None:
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.M))
    assert pins[name] == LOOKED_AT[name], "look at nas_llm/studies/_optuna.py before another version is pinned"
    wanted = [requirement.specifier for requirement in requirements() if requirement.name == name]
    assert len(wanted) == 2
    for specifier in wanted:
        assert specifier.contains(version(name))
        assert specifier.contains(LOOKED_AT[name])
        assert any(each.operator in ("<", "<=", "~=", "==") for each in specifier), f"{name} has no upper bound"


def private_uses(tree: ast.AST) -> list[int]:
    """Lines that reach for an underscore of something that is not the class's own."""
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                continue
            case ast.Attribute(attr=name) if name.startswith("_") and not name.startswith("__"):
                lines.append(node.lineno)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str(name)), *_]):
                lines += [node.lineno] if name.startswith("_") else []
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in OTHERS:
                words = [*module.split("."), *(alias.name for alias in names)]
                lines += [node.lineno] if any(word.startswith("_") for word in words) else []
    return lines


def test_they_are_used_in_one_file() -> None:
    found = {
        str(path.relative_to(STUDIES)): lines
        for path in sorted(STUDIES.rglob("*.py"))
        if (lines := private_uses(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert list(found) == ["_optuna.py"]
    # Nothing outside of the studies imports Optuna but to turn its messages off.
    users = [
        path.name
        for path in (ROOT / "nas_llm").rglob("*.py")
        if STUDIES not in path.parents
        and re.search(r"^\s*(import|from) optuna", path.read_text(encoding="utf-8"), re.M)
    ]
    assert len(users) == 1


def test_studies_and_trials_are_known_by_what_the_storage_knows_them_by(storage_url: str) -> None:
    storage = open_storage(storage_url)
    study = optuna.create_study(storage=storage)
    assert storage.get_study_name_from_id(parts.id_of_study(study)) == study.study_name
    assert parts.storage_of(study) is not None
    trial = study.ask()
    assert storage.get_trial(parts.id_of_trial(trial)).number == trial.number
    assert parts.id_of_trial(study.trials[0]) == parts.id_of_trial(trial)
    assert parts.is_there(study)
    optuna.delete_study(study_name=study.study_name, storage=storage)
    assert not parts.is_there(study)


def test_a_trial_is_run_with_the_parameters_that_it_was_given_and_sees_all_others(tmp_path: Path) -> None:
    seen = []

    class Looking(optuna.samplers.RandomSampler):
        def infer_relative_search_space(
            self, study: optuna.Study, trial: optuna.trial.FrozenTrial
        ) -> dict[str, object]:
            seen.append(len(study._get_trials(deepcopy=False, use_cache=True)))
            return {}

    storage = open_storage(tmp_path / "j")
    study = optuna.create_study(storage=storage, sampler=Looking())
    for value in (0.25, 0.5):
        waiting = optuna.create_trial(
            state=optuna.trial.TrialState.WAITING, system_attrs={parts.FIXED_PARAMS: {"x": value}}
        )
        study.add_trial(waiting)
        number = parts.id_of_trial(study.trials[-1])
        storage.set_trial_state_values(number, optuna.trial.TrialState.RUNNING)
        trial = parts.running_trial(study, number)
        assert trial.suggest_float("x", 0, 1) == value
        trial.suggest_float("y", 0, 1)
    # Without a word Optuna would show the second trial what it had kept of the first.
    assert seen == [1, 2]


def test_what_is_imported_late_is_known() -> None:
    samplers, pruners = optuna.samplers, optuna.pruners
    assert parts.late_imports(samplers.CmaEsSampler) == ["cmaes"]
    assert {"torch"} <= set(parts.late_imports(samplers.GPSampler))
    assert parts.late_imports(pruners.WilcoxonPruner) == ["scipy"]
    assert parts.late_imports(samplers.TPESampler) == []


def test_names_in_storages_are_theirs(tmp_path: Path) -> None:
    assert JournalFileSymlinkLock("x")._lock_file == f"x{parts.LOCK_SUFFIX}"
    assert _upload.ARTIFACTS_ATTR_PREFIX == parts.STUDY_ARTIFACTS
    assert _backend.DASHBOARD_ARTIFACTS_ATTR_PREFIX == parts.TRIAL_ARTIFACTS
    assert _constrained_optimization._CONSTRAINTS_KEY == parts.CONSTRAINTS
    open_storage(f"sqlite:///{tmp_path}/s.db")
    tables = sqlalchemy.inspect(sqlalchemy.create_engine(f"sqlite:///{tmp_path}/s.db")).get_table_names()
    assert parts.STUDIES_TABLE in tables


def test_a_journals_own_parts(tmp_path: Path) -> None:
    storage = open_storage(tmp_path / "j")
    assert parts.journal_of(storage).batch is not None
    assert parts.journal_of(optuna.storages.InMemoryStorage()) is None
