"""Which trials run, how often and by whom; with a made-up objective on every kind of storage."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from small_studies import SMALL, small_study

from nas_llm.errors import NasLlmError, RunError, StudyError
from nas_llm.events import Event, TrialFinished, ignore
from nas_llm.studies import Interrupted, LoadedStudy, open_storage
from nas_llm.studies._liveness import BEAT, OWNER, Watch, heartbeat, this_process
from nas_llm.studies._optimize import check_identity, open_study, optimize
from nas_llm.studies._slots import REASON, SETTING, SLOT, STALE, Slots
from nas_llm.studies.definition._parameters import suggest


def unique(**changes: Any) -> LoadedStudy:
    return small_study(name=f"s{os.urandom(4).hex()}", **changes)


def open_slots(loaded: LoadedStudy, url: str, *, watch: Watch | None = None, resume: bool = True) -> Slots:
    storage = open_storage(url)
    study = open_study(loaded, storage, url=url, resume=resume)
    return Slots(study, storage, loaded, total=loaded.definition.trials, watch=watch)


def work(slots: Slots, loaded: LoadedStudy, objective: Callable[[Any], Any], **options: Any) -> None:
    optimize(
        slots,
        objective,  # type: ignore[arg-type]
        loaded.definition,
        on_event=options.pop("on_event", ignore),
        should_stop=options.pop("should_stop", lambda: False),
        **options,
    )


def test_several_workers_run_every_slot_once(storage_url: str) -> None:
    loaded = unique(trials=12)
    ran: list[int] = []
    lock = threading.Lock()

    def objective(trial: optuna.Trial) -> float:
        values = suggest(trial, loaded.definition.parameters)
        with lock:
            ran.append(trial.user_attrs[SLOT])
        time.sleep(0.02)
        return float(values["search.operators.guided_probability"])

    slots = [open_slots(loaded, storage_url) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(each, loaded, objective)) for each in slots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    trials = slots[0].study.get_trials()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    assert sorted(ran) == list(range(12))
    assert sorted(trial.user_attrs[SLOT] for trial in complete) == list(range(12))
    assert not [trial for trial in trials if trial.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert [trial.user_attrs.get(SETTING) for trial in complete[:3]] == ["paper", "default", None]


def test_what_a_slot_suggests_does_not_depend_on_who_runs_it(tmp_path: Path) -> None:
    found = []
    loaded = small_study(trials=6)

    def objective(trial: optuna.Trial) -> float:
        values = suggest(trial, loaded.definition.parameters)
        return float(values["search.population"]) + float(values["search.operators.guided_probability"])

    for name, workers in (("a", 1), ("b", 2)):
        slots = [open_slots(loaded, str(tmp_path / name)) for _ in range(workers)]
        threads = [threading.Thread(target=work, args=(each, loaded, objective)) for each in slots]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        found.append({trial.user_attrs[SLOT]: trial.values for trial in slots[0].settled()})
    assert found[0] == found[1]
    assert len({tuple(values) for values in found[0].values()}) == 6


def test_a_trial_of_a_dead_process_is_run_again_with_the_same_parameters(storage_url: str) -> None:
    loaded = unique(trials=3)
    slots = open_slots(loaded, storage_url)
    slots.fill()
    victim = slots.claim()
    assert victim is not None
    params = suggest(victim, loaded.definition.parameters)
    dead = this_process() | {"pid": 2**22 + 1}
    slots.storage.set_trial_user_attr(victim._trial_id, OWNER, dead)
    seen: dict[int, dict[str, Any]] = {}

    def objective(trial: optuna.Trial) -> float:
        seen[trial.user_attrs[SLOT]] = suggest(trial, loaded.definition.parameters)
        return 1.0

    work(slots, loaded, objective)
    assert seen[0] == params
    assert sorted(seen) == [0, 1, 2]
    failed = [trial for trial in slots.study.trials if trial.state == TrialState.FAIL]
    assert [trial.user_attrs[REASON] for trial in failed] == [STALE]
    assert len(slots.settled()) == 3


def test_a_trial_on_another_machine_is_stale_when_its_beats_stand_still(tmp_path: Path) -> None:
    now = 0.0
    loaded = unique()
    slots = open_slots(loaded, str(tmp_path / "j"), watch=Watch(seconds=10, clock=lambda: now))
    slots.fill()
    far, silent = slots.claim(), slots.claim()
    assert far is not None
    assert silent is not None
    slots.storage.set_trial_user_attr(far._trial_id, OWNER, this_process() | {"machine": "elsewhere"})
    for beat in range(12):
        slots.storage.set_trial_user_attr(far._trial_id, BEAT, beat)
        slots.sweep()
        now += 10
    states = {trial.number: trial.state for trial in slots.study.trials}
    # The second one was taken by somebody who died before saying who it was.
    assert (states[far.number], states[silent.number]) == (TrialState.RUNNING, TrialState.FAIL)
    now += 61
    slots.sweep()
    assert slots.study.trials[far.number].state == TrialState.FAIL


def test_a_process_taken_for_dead_does_not_disturb(tmp_path: Path) -> None:
    loaded = unique(trials=3)
    slots, other = open_slots(loaded, str(tmp_path / "j")), open_slots(loaded, str(tmp_path / "j"))

    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            other.fail(trial._trial_id, STALE)
            return 7.0
        return 1.0

    work(slots, loaded, objective)
    assert [trial.values for trial in slots.settled()] == [[1.0]] * 3


def test_beats_are_written_and_end(tmp_path: Path) -> None:
    loaded = unique()
    slots = open_slots(loaded, str(tmp_path / "j"))
    slots.fill()
    trial = slots.claim()
    assert trial is not None
    with heartbeat(slots.storage, trial._trial_id, seconds=0.02):
        time.sleep(0.3)
    beats = slots.storage.get_trial(trial._trial_id).user_attrs[BEAT]
    assert beats >= 2
    time.sleep(0.1)
    assert slots.storage.get_trial(trial._trial_id).user_attrs[BEAT] == beats
    assert Watch().stale([slots.storage.get_trial(trial._trial_id)]) == []


def test_doubles_are_dropped(tmp_path: Path) -> None:
    loaded = unique(trials=3)
    first, second = open_slots(loaded, str(tmp_path / "j")), open_slots(loaded, str(tmp_path / "j"))
    first.fill()
    # Two processes that see an empty study at once both fill it.
    for slot in range(3):
        second._enqueue(slot)
    ran: list[int] = []
    work(second, loaded, lambda trial: ran.append(trial.user_attrs[SLOT]) or 1.0)
    assert sorted(ran) == [0, 1, 2]
    assert len(first.settled()) == 3


def test_a_study_can_be_made_longer(tmp_path: Path) -> None:
    for total in (2, 5):
        loaded = small_study(trials=total)
        slots = open_slots(loaded, str(tmp_path / "j"))
        work(slots, loaded, lambda trial: 1.0)
        assert len(slots.settled()) == total
        assert len(slots.study.trials) == total


def test_an_error_fails_its_trial_and_three_in_a_row_end_the_study(tmp_path: Path) -> None:
    loaded, told = unique(trials=6), []

    def objective(trial: optuna.Trial) -> float:
        if trial.user_attrs[SLOT] == 2:
            raise RunError("no room")
        return 1.0

    slots = open_slots(loaded, str(tmp_path / "a"))
    work(slots, loaded, objective, on_event=told.append)
    assert [trial.state for trial in slots.settled()].count(TrialState.FAIL) == 1
    finished = [event for event in told if isinstance(event, TrialFinished)]
    assert [event.state for event in finished].count("failed") == 1
    assert finished[-1].done == finished[-1].total == 6
    # The next call tries it again.
    work(slots, loaded, lambda trial: 2.0)
    assert [trial.state for trial in slots.settled()] == [TrialState.COMPLETE] * 6

    def broken(trial: optuna.Trial) -> float:
        raise RunError("no room at all")

    slots = open_slots(unique(trials=6), str(tmp_path / "b"))
    with pytest.raises(NasLlmError, match="no room at all"):
        work(slots, loaded, broken)
    assert len([trial for trial in slots.study.trials if trial.state == TrialState.FAIL]) == 3


def test_a_stop_opens_the_slot_again_and_a_deadline_ends_the_call(tmp_path: Path) -> None:
    loaded = unique(trials=3)
    slots = open_slots(loaded, str(tmp_path / "j"))
    asked = False

    def objective(trial: optuna.Trial) -> float:
        nonlocal asked
        asked = True
        raise Interrupted

    work(slots, loaded, objective, should_stop=lambda: asked)
    assert slots.settled() == []
    work(slots, loaded, lambda trial: 1.0, deadline=time.monotonic() - 1)
    assert slots.settled() == []
    work(slots, loaded, lambda trial: 1.0)
    assert len(slots.settled()) == 3


def test_samplers_that_come_to_an_end_end_the_study(tmp_path: Path) -> None:
    grid = {"search.operators.crossover": {"choices": ["uniform", "one_point"]}}
    loaded = unique(trials=9, sampler={"name": "grid"}, parameters=grid)
    slots = open_slots(loaded, str(tmp_path / "j"))
    work(slots, loaded, lambda trial: float(len(suggest(trial, loaded.definition.parameters))))
    assert 4 <= len(slots.settled()) < 9


def test_a_changed_definition_is_one_line(storage_url: str) -> None:
    loaded = unique()
    open_slots(loaded, storage_url)
    name = loaded.definition.name
    open_slots(small_study(name=name, trials=99, sampler={"name": "tpe"}), storage_url)
    with pytest.raises(StudyError, match="already; continue or join it with --resume"):
        open_slots(loaded, storage_url, resume=False)
    for changes, key in (({"evaluations": 20}, "study.evaluations"), ({"seeds": [0, 1]}, "study.seeds")):
        with pytest.raises(StudyError, match=f"begun with another definition: .*{key}") as caught:
            open_slots(small_study(name=name, **changes), storage_url)
        assert "\n" not in str(caught.value)
    other = small_study(name=name, set=(*SMALL, "space.ffn_multiple=8"))
    with pytest.raises(StudyError, match="problem.space.ffn_multiple"):
        open_slots(other, storage_url)
    study = open_slots(loaded, storage_url).study
    check_identity(study, "v2|model|text")
    check_identity(study, "v2|model|text")
    with pytest.raises(StudyError, match="other inputs .*other-text"):
        check_identity(study, "v2|model|other-text")


def test_a_pruned_trial_settles_its_slot(tmp_path: Path) -> None:
    loaded = unique(trials=3)
    slots, told = open_slots(loaded, str(tmp_path / "j")), []

    def objective(trial: optuna.Trial) -> float:
        trial.report(0.5, 1)
        if trial.number == 2:
            raise optuna.TrialPruned
        return 1.0

    def on_event(event: Event) -> None:
        told.append(event)

    work(slots, loaded, objective, on_event=on_event)
    assert [event.state for event in told] == ["complete", "complete", "pruned"]
    assert [event.label for event in told] == ["paper", "default", ""]
