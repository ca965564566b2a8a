"""Samplers that run every combination of the parameters once, with a made-up objective."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from small_studies import small_study

from nas_llm.errors import StudyError
from nas_llm.events import ignore
from nas_llm.studies import LoadedStudy, open_storage, run_study
from nas_llm.studies._liveness import OWNER, this_process
from nas_llm.studies._optimize import open_study, optimize
from nas_llm.studies._samplers import build_sampler, every_point
from nas_llm.studies._slots import REASON, SETTING, STALE, Slots
from nas_llm.studies.definition import suggest

SIX = {
    "search.operators.mask_probability": {"low": 0.0, "high": 1.0, "step": 0.5},
    "search.operators.crossover": {"choices": ["uniform", "one_point"]},
}
WHOLE = {"search.population": {"low": 4, "high": 6}}


def study_of_six(sampler: str = "grid", args: dict[str, Any] | None = None, **changes: Any) -> LoadedStudy:
    chosen = {"name": sampler, "args": args or {}}
    return small_study(**({"trials": 12, "sampler": chosen, "parameters": SIX} | changes))


def open_slots(loaded: LoadedStudy, path: Path) -> Slots:
    storage = open_storage(path)
    study = open_study(loaded, storage, url=str(path), resume=True)
    return Slots(study, storage, loaded, total=loaded.definition.trials)


def work(slots: Slots, loaded: LoadedStudy) -> None:
    def objective(trial: optuna.Trial) -> float:
        return float(len(suggest(trial, loaded.definition.parameters)))

    optimize(slots, objective, loaded.definition, on_event=ignore, should_stop=lambda: False)  # type: ignore[arg-type]


def drawn(slots: Slots) -> Counter[tuple[Any, ...]]:
    """How often each point was run, baselines left out."""
    done = [trial for trial in slots.study.trials if trial.state == TrialState.COMPLETE]
    keys = sorted(slots._loaded.definition.parameters)
    return Counter(tuple(t.params[key] for key in keys) for t in done if SETTING not in t.user_attrs)


@pytest.mark.parametrize("sampler", ["grid", "GridSampler", "brute_force"])
def test_every_point_is_run_once_beside_the_baselines_and_a_resumption_runs_none_again(
    sampler: str, tmp_path: Path
) -> None:
    loaded = study_of_six(sampler)
    slots = open_slots(loaded, tmp_path / "j")
    work(slots, loaded)
    assert set(drawn(slots).values()) == {1}
    assert len(drawn(slots)) == 6
    assert len(slots.settled()) == 8
    assert slots.is_exhausted()
    assert not slots.is_busy()
    again = open_slots(loaded, tmp_path / "j")
    work(again, loaded)
    assert len(again.study.trials) == 8


def test_several_processes_share_the_points(tmp_path: Path) -> None:
    loaded = study_of_six()
    slots = [open_slots(loaded, tmp_path / "j") for _ in range(3)]
    threads = [threading.Thread(target=work, args=(each, loaded)) for each in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert drawn(slots[0]) == dict.fromkeys(drawn(slots[0]), 1)
    assert len(drawn(slots[0])) == 6


def test_a_point_whose_process_died_before_it_was_suggested_is_run(tmp_path: Path) -> None:
    """Optuna calls it visited."""
    loaded = study_of_six()
    slots = open_slots(loaded, tmp_path / "j")
    slots.fill()
    for _ in range(4):
        victim = slots.claim()
        assert victim is not None
        slots.storage.set_trial_user_attr(victim._trial_id, OWNER, this_process() | {"pid": 2**22 + 1})
    work(slots, loaded)
    assert [trial.user_attrs.get(REASON) for trial in slots.study.trials].count(STALE) == 4
    assert len(drawn(slots)) == 6
    assert set(drawn(slots).values()) == {1}


def test_a_point_that_fails_is_tried_again_by_the_next_resumption(tmp_path: Path) -> None:
    loaded = study_of_six()
    slots = open_slots(loaded, tmp_path / "j")
    slots.fill()
    for _ in range(3):
        claimed = slots.claim()
        assert claimed is not None
    slots.fail(claimed._trial_id, "error: no")
    for trial in slots.study.get_trials(states=(TrialState.RUNNING,)):
        slots.storage.set_trial_user_attr(trial._trial_id, OWNER, this_process() | {"pid": 2**22 + 1})
    slots.sweep()
    assert not slots.is_exhausted()
    work(slots, loaded)
    assert len(drawn(slots)) == 6
    assert slots.is_exhausted()


def test_a_study_that_another_sampler_began_goes_on_with_what_it_left(tmp_path: Path) -> None:
    """Three trials at random, the rest of their slots waiting in the storage."""
    loaded = study_of_six("random", trials=14)
    slots = open_slots(loaded, tmp_path / "j")
    optimize(
        slots,
        lambda trial: float(len(suggest(trial, loaded.definition.parameters))),  # type: ignore[arg-type]
        loaded.definition,
        on_event=ignore,
        should_stop=lambda: len(slots.settled()) >= 3,
    )
    grid = study_of_six("grid", trials=14)
    slots = open_slots(grid, tmp_path / "j")
    work(slots, grid)
    assert len(drawn(slots)) == 6
    assert set(drawn(slots).values()) == {1}


def test_fewer_trials_than_points_are_not_all_of_them(tmp_path: Path) -> None:
    loaded = study_of_six(trials=5)
    slots = open_slots(loaded, tmp_path / "j")
    work(slots, loaded)
    assert len(drawn(slots)) == 3
    assert not slots.is_exhausted()
    more = study_of_six(trials=12)
    slots = open_slots(more, tmp_path / "j")
    work(slots, more)
    assert set(drawn(slots).values()) == {1}
    assert len(drawn(slots)) == 6


def test_one_point_is_enough(tmp_path: Path) -> None:
    loaded = study_of_six(parameters={"search.operators.crossover": {"choices": ["uniform"]}})
    slots = open_slots(loaded, tmp_path / "j")
    work(slots, loaded)
    assert sum(drawn(slots).values()) == 1


def test_whole_numbers_need_no_step_and_others_do() -> None:
    for sampler in ("grid", "brute_force"):
        points = every_point(study_of_six(sampler, parameters=WHOLE).definition)
        assert points is not None
        assert sorted(point["search.population"] for point in points) == [4, 5, 6]
        unending = study_of_six(sampler, parameters={"search.operators.alpha": {"low": 0.5, "high": 1.0}})
        with pytest.raises(StudyError, match=f"the {sampler} sampler needs a step for parameters.search.operators.al"):
            every_point(unending.definition)
    assert every_point(study_of_six("tpe").definition) is None


def test_a_seed_is_an_order_and_not_another_grid() -> None:
    first, second = (every_point(study_of_six(seed=seed).definition) for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert first != second
    assert {tuple(point.items()) for point in first} == {tuple(point.items()) for point in second}


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"search.operators.crossover": ["uniform"]}, "look at search.operators.mask_probability"),
        ({**{key: [0.5] for key in SIX}, "search.population": [4]}, "look at search.population"),
        ({"search.operators.mask_probability": [], "search.operators.crossover": ["uniform"]}, "look at search.operat"),
    ],
)
def test_a_grid_of_ones_own_has_every_parameter(space: dict[str, Any], expected: str) -> None:
    loaded = study_of_six(args={"search_space": space})
    with pytest.raises(StudyError, match=expected):
        every_point(loaded.definition)


def test_too_many_points_are_refused_before_they_fill_the_memory() -> None:
    fine = {"low": 0.0, "high": 1.0, "step": 0.001}
    keys = ("search.operators.mask_probability", "search.operators.guided_probability", "search.operators.alpha")
    loaded = study_of_six("brute_force", parameters=dict.fromkeys(keys, fine))
    with pytest.raises(StudyError, match="1,003,003,001 combinations"):
        every_point(loaded.definition)


def test_points_of_a_sequence_come_from_one_sequence_by_any_name() -> None:
    for name in ("qmc", "QMCSampler", "Qmc"):
        loaded = small_study(sampler={"name": name, "args": {"scramble": True}})
        samplers = [build_sampler(loaded.definition, slot=slot) for slot in (2, 3)]
        assert {sampler._seed for sampler in samplers} == {0}  # type: ignore[attr-defined]


def test_a_real_study_says_that_it_is_through(tmp_path: Path) -> None:
    loaded = study_of_six(parameters={"search.operators.crossover": SIX["search.operators.crossover"]})
    summary = run_study(loaded, storage=tmp_path / "j")
    assert (len(summary.trials), summary.total, summary.exhausted) == (4, 12, True)
    assert not run_study(small_study(trials=1), storage=tmp_path / "k").exhausted
