"""What a sampler, a pruner or a storage lacks is said before anything runs."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from small_studies import small_study

from nas_llm.errors import StudyError
from nas_llm.studies import LoadedStudy, open_storage, run_study, study_summary
from nas_llm.studies._optuna import late_imports
from nas_llm.studies._samplers import build_pruner, build_sampler

MODULES = {
    "sampler": (optuna.samplers, optuna.samplers.BaseSampler, build_sampler),
    "pruner": (optuna.pruners, optuna.pruners.BasePruner, build_pruner),
}


def kinds() -> list[tuple[str, str]]:
    """Every sampler and pruner that a definition can name."""
    found = []
    for what, (module, base, _) in MODULES.items():
        for name in module.__all__:
            kind = getattr(module, name)
            if isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind):
                found.append((what, name))
    return [each for each in found if each[1] != "PartialFixedSampler"]


def study_with(what: str, name: str, **args: Any) -> LoadedStudy:
    needed: dict[str, Any] = {
        "PercentilePruner": {"percentile": 25.0},
        "PatientPruner": {"patience": 1},
        "ThresholdPruner": {"lower": 0.1},
    }.get(name, {})
    parameters = {"search.population": {"low": 4, "high": 12, "step": 4}}
    chosen = {"name": name, "args": needed | args}
    return small_study(seeds=range(5), parameters=parameters, **{what: chosen})


@pytest.mark.parametrize(("what", "name"), kinds())
def test_a_missing_package_is_named(what: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, build = MODULES[what]
    study = study_with(what, name)
    packages = late_imports(getattr(module, name))
    for package in packages:
        if package == "cmaes":
            # Nothing that is installed needs it; whether it is there or not, it is taken away.
            monkeypatch.setitem(sys.modules, package, None)
            with pytest.raises(StudyError, match=f'^{what} "{name}" needs a package: pip install {package}$'):
                build(study.definition)
            monkeypatch.undo()
    others = [package for package in packages if package != "cmaes"]
    if others:
        with monkeypatch.context() as patch:
            for package in others:
                patch.setitem(sys.modules, package, None)
            with pytest.raises(StudyError, match=f"needs a package: pip install {others[0]}"):
                build(study.definition)
    if packages == others:
        assert build(study.definition) is not None


def test_a_study_without_the_samplers_package_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    with pytest.raises(StudyError, match="pip install cmaes"):
        run_study(study_with("sampler", "cmaes"), storage=tmp_path / "j")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "modules", "expected"),
    [
        ("mysql://me@127.0.0.1/x", ["MySQLdb"], "pip install mysqlclient"),
        ("mysql+pymysql://me@127.0.0.1/x", ["pymysql"], "pip install pymysql"),
        ("postgresql+psycopg2://me@127.0.0.1/x", ["psycopg2"], "pip install psycopg2"),
        ("postgresql://me@127.0.0.1/x", ["psycopg", "psycopg2"], r"pip install 'nas-llm\[postgresql\]'"),
        ("grpc://127.0.0.1:1", ["grpc"], r"pip install 'nas-llm\[grpc\]'"),
        ("grpc://127.0.0.1:1", ["google.protobuf"], r"pip install 'nas-llm\[grpc\]'"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_a_storage_names_the_package_that_it_lacks(
    url: str, modules: list[str], expected: str, create: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StudyError, match=f"needs a package: {expected}$") as caught:
        open_storage(url, create=create)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("what", "name", "args", "expected"),
    [
        ("sampler", "tpe", {"n_startup_trials": "ten"}, "sampler.args.n_startup_trials = 'ten' should be int"),
        ("sampler", "tpe", {"seed": True}, "sampler.args.seed = True should be int"),
        ("sampler", "random", {"seed": 0.5}, "sampler.args.seed = 0.5 should be int"),
        ("sampler", "tpe", {"multivariate": 1}, "sampler.args.multivariate = 1 should be bool"),
        ("sampler", "tpe", {"gamma": 3}, "sampler.args.gamma takes an object of Python"),
        ("sampler", "gp", {"independent_sampler": "random"}, "takes an object of Python"),
        ("sampler", "nsgaii", {"crossover": "uniform"}, "takes an object of Python"),
        ("sampler", "grid", {"search_space": [1]}, "sampler.args.search_space = [1] should be Mapping"),
        ("pruner", "median", {"n_startup_trials": 1.5}, "pruner.args.n_startup_trials = 1.5 should be int"),
        ("pruner", "PatientPruner", {"wrapped_pruner": "median"}, "takes an object of Python"),
        ("pruner", "hyperband", {"max_resource": 1.5}, "pruner.args.max_resource = 1.5 should be int or str"),
    ],
)
def test_an_argument_of_another_kind_is_named(what: str, name: str, args: dict[str, Any], expected: str) -> None:
    """Optuna takes them, and stumbles in the middle of a study."""
    with pytest.raises(StudyError) as caught:
        MODULES[what][2](study_with(what, name, **args).definition)
    assert expected in str(caught.value)


def test_whole_numbers_are_taken_for_others() -> None:
    assert build_sampler(study_with("sampler", "nsgaii", crossover_prob=1).definition) is not None
    assert build_pruner(study_with("pruner", "hyperband", max_resource="auto").definition) is not None


@pytest.mark.parametrize("name", ["cmaes", "CmaEsSampler", "Cma_Es"])
def test_two_objectives_are_too_many_by_any_name(name: str) -> None:
    loaded = small_study(objectives=["hypervolume", "seconds"], sampler={"name": name})
    with pytest.raises(StudyError, match=r"takes one objective; the study has 2"):
        build_sampler(loaded.definition)


def saved_searches(count: int, **args: Any) -> int:
    """How many of the searches of a hopeless trial Optuna's pruner spares, as trials are reported here."""
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner(**args))
    best = study.ask()
    for seed in range(count):
        best.report(0.9 + 0.001 * seed, seed)
    study.tell(best, 0.9)
    hopeless, asked = study.ask(), []
    for seed in range(count):
        hopeless.report(0.01 + 0.0001 * seed * seed, seed)
        asked.append(hopeless.should_prune())
    return count - 1 - asked.index(True) if True in asked else 0


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"p_threshold": 0.3},
        {"p_threshold": 0.25},
        {"p_threshold": 0.01},
        {"n_startup_steps": 6},
        {"p_threshold": 1},
    ],
)
def test_wilcoxon_is_taken_where_it_can_save_a_search_and_nowhere_else(args: dict[str, Any]) -> None:
    for count in range(1, 11):
        loaded = small_study(seeds=range(count), pruner={"name": "wilcoxon", "args": args})
        if saved_searches(count, **args):
            assert build_pruner(loaded.definition) is not None
            continue
        with pytest.raises(StudyError, match=r"could never save a search: .*; give \d+ seeds or more \(now"):
            build_pruner(loaded.definition)


def test_wilcoxon_with_a_threshold_of_nothing_is_refused() -> None:
    loaded = small_study(seeds=range(9), pruner={"name": "wilcoxon", "args": {"p_threshold": 0.0}})
    with pytest.raises(StudyError, match="p_threshold = 0"):
        build_pruner(loaded.definition)


def test_a_summary_of_a_storage_that_is_not_there_makes_none(tmp_path: Path) -> None:
    for url in (tmp_path / "j", f"sqlite:///{tmp_path}/deep/s.db"):
        with pytest.raises(StudyError, match="holds no study"):
            study_summary(small_study(), url)
    assert list(tmp_path.iterdir()) == []
