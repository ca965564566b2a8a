"""Studies that were renamed in the dashboard, and mirrors of runs that were renamed or moved."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from renaming import rename
from small_studies import small_study

from nas_llm.config import LoadedProblem, load_problem
from nas_llm.errors import StudyError
from nas_llm.events import Event, Notice
from nas_llm.studies import SearchMirror, open_storage, run_study, study_summary
from nas_llm.studies._optimize import open_study
from nas_llm.workflow import run_search

pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
SMALL = (
    "search.population=8",
    "data.calibration.tokens=1024",
    "data.fitness.tokens=256",
    "data.held_out.tokens=256",
    "front.size=5",
)


def names(url: str | Path) -> list[str]:
    return sorted(study.study_name for study in open_storage(url).get_all_studies())


def problem(evaluations: int, *overrides: str) -> LoadedProblem:
    return load_problem("tiny-llama", overrides=[*SMALL, f"search.evaluations={evaluations}", *overrides])


def searched(
    loaded: LoadedProblem, directory: Path, *, url: str | Path | None = None, resume: bool = False
) -> list[Event]:
    told: list[Event] = []
    mirror = SearchMirror(loaded.problem, directory, url=url, on_event=told.append)
    mirror.finish(run_search(loaded, run_dir=directory, resume=resume, on_event=mirror))
    assert not [event for event in told if isinstance(event, Notice) and "mirrored" in event.message]
    return told


def ordinals(url: str | Path, name: str) -> list[int]:
    trials = optuna.load_study(study_name=name, storage=open_storage(url)).trials
    return [trial.user_attrs["ordinal"] for trial in trials]


def test_a_renamed_study_goes_on_under_its_new_name(tmp_path: Path) -> None:
    url, told = tmp_path / "j", []
    first = run_study(small_study(trials=3), storage=url)
    rename(url, "small", "the good one")
    summary = run_study(small_study(trials=4), storage=url, resume=True, on_event=told.append)
    assert names(url) == ["the good one"]
    assert [trial.values for trial in summary.trials[:3]] == [trial.values for trial in first.trials]
    assert len(summary.trials) == 4
    assert [event.message for event in told if isinstance(event, Notice)] == [
        "study small is called the good one in its storage; going on with it"
    ]
    study = optuna.load_study(study_name="the good one", storage=open_storage(url))
    assert study.metric_names == ["hypervolume"]
    assert study_summary(small_study(trials=4), url).best == summary.best


def test_a_renamed_study_is_still_another_one_with_another_definition(tmp_path: Path) -> None:
    url = str(tmp_path / "j")
    open_study(small_study(), open_storage(url), url=url, resume=False)
    rename(url, "small", "other")
    with pytest.raises(StudyError, match=r"study.evaluations \(was 16, now 20\)"):
        open_study(small_study(evaluations=20), open_storage(url), url=url, resume=True)
    # Its name is free for a new study.
    open_study(small_study(evaluations=20), open_storage(url), url=url, resume=False)
    assert names(url) == ["other", "small"]


def test_two_renamed_studies_are_not_guessed_between(tmp_path: Path) -> None:
    url = str(tmp_path / "j")
    for name in ("a", "b"):
        open_study(small_study(), open_storage(url), url=url, resume=False)
        rename(url, "small", name)
    with pytest.raises(StudyError, match=r"begun as small \(a, b\), and none of this name; give the one"):
        open_study(small_study(), open_storage(url), url=url, resume=True)


def test_a_study_that_is_renamed_while_it_runs_ends_with_one_line(tmp_path: Path) -> None:
    url = tmp_path / "j"

    def on_event(event: Event) -> None:
        if type(event).__name__ == "TrialFinished" and "small" in names(url):
            rename(url, "small", "other")

    with pytest.raises(StudyError, match="was renamed or deleted while it ran; --resume goes on") as caught:
        run_study(small_study(trials=4), storage=url, on_event=on_event)
    assert "\n" not in str(caught.value)
    assert len(run_study(small_study(trials=4), storage=url, resume=True).trials) == 4
    assert names(url) == ["other"]


def test_a_renamed_mirror_is_gone_on_with(tmp_path: Path) -> None:
    directory, url = tmp_path / "demo", tmp_path / "shared.journal"
    for place in (None, url):
        journal = place or directory / "study.journal"
        searched(problem(16, f"seed={place is None:d}"), directory, url=place)
        rename(journal, "demo", "the good one")
        searched(problem(24, f"seed={place is None:d}"), directory, url=place, resume=True)
        assert names(journal) == ["the good one"]
        assert ordinals(journal, "the good one") == list(range(1, 25))
        metrics = optuna.load_study(study_name="the good one", storage=open_storage(journal)).metric_names
        assert metrics == ["perplexity", "macs_per_token"]
        directory = tmp_path / "again" / "demo"


def test_a_moved_run_keeps_its_mirror(tmp_path: Path) -> None:
    searched(problem(16), tmp_path / "demo")
    moved = (tmp_path / "demo").rename(tmp_path / "elsewhere")
    searched(problem(24), moved, resume=True)
    assert names(moved / "study.journal") == ["demo"]
    assert ordinals(moved / "study.journal", "demo") == list(range(1, 25))


def test_another_run_of_the_same_problem_has_a_study_of_its_own_beside_a_renamed_one(tmp_path: Path) -> None:
    url = tmp_path / "shared.journal"
    searched(problem(8), tmp_path / "a", url=url)
    rename(url, "a", "the good one")
    searched(problem(8), tmp_path / "b", url=url)
    assert names(url) == ["b", "the good one"]


@pytest.mark.parametrize("change", ["reconstruction.step=0.3", "front.size=4", "description='more'"])
def test_what_a_resumption_may_change_makes_no_second_study(change: str, tmp_path: Path) -> None:
    searched(problem(16), tmp_path / "demo")
    searched(problem(16, change), tmp_path / "demo", resume=True)
    assert names(tmp_path / "demo" / "study.journal") == ["demo"]


def test_a_study_may_change_what_no_value_depends_on(tmp_path: Path) -> None:
    """The same rule as for runs, but for the budget: a value is what is reached with it."""
    url = str(tmp_path / "j")
    base = small_study().definition.set
    open_study(small_study(), open_storage(url), url=url, resume=False)
    for override in ("reconstruction.step=0.3", "front.size=7", "description='x'"):
        open_study(small_study(set=(*base, override)), open_storage(url), url=url, resume=True)
    for override in ("reconstruction.damping=0.1", "space.ffn_multiple=8", "seed=3"):
        with pytest.raises(StudyError, match=f"problem.{override.partition('=')[0]}"):
            open_study(small_study(set=(*base, override)), open_storage(url), url=url, resume=True)
