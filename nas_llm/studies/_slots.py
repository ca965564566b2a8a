"""The trials of a study as numbered slots, so that any number of processes run each one exactly once.

All slots are put into the storage as waiting trials; taking one is atomic on every storage. Whatever goes wrong
besides is mended by whoever comes next: a slot without a live trial gets a new one, and of two trials for one slot the
one with the lower number counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_llm.studies._liveness import Watch
from nas_llm.studies.definition import (
    BASELINES,
    DEFAULT,
    PAPER,
    StudyDefinition,
    build_sampler,
    nearest_inside,
    paper_settings,
    setting_of,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

    from nas_llm.studies.definition import LoadedStudy

SLOT, SETTING, REASON = "slot", "setting", "reason"
STALE, INTERRUPTED, DOUBLE, ERROR = "its process is gone", "interrupted", "another trial has this slot", "error"
_MOST_TRIES = 4


class Slots:
    """The slots of one study, as one process sees them.

    Args:
        study: The Optuna study.
        storage: Its storage.
        loaded: Its definition.
        total: Number of slots.
        watch: Finds trials whose process is gone.
    """

    def __init__(
        self, study: Study, storage: BaseStorage, loaded: LoadedStudy, *, total: int, watch: Watch | None = None
    ) -> None:
        self.study = study
        self.storage = storage
        self.total = total
        self._loaded = loaded
        self._watch = watch or Watch()

    def trials(self) -> list[FrozenTrial]:
        """All trials that fill a slot, by number, doubles and failures included."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.user_attrs.get(SLOT, self.total) < self.total]

    def settled(self) -> list[FrozenTrial]:
        """One finished trial for each slot that is done or given up."""
        return [winner for winner in self._winners().values() if winner.state.is_finished()]

    def is_busy(self) -> bool:
        """Whether somebody is at work on a slot, or one waits."""
        return any(not winner.state.is_finished() for winner in self._winners().values())

    def sweep(self) -> None:
        """Fail the trials whose process is gone; their slots are open again."""
        from optuna.trial import TrialState

        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        for trial in self._watch.stale(running):
            self.fail(trial._trial_id, STALE)

    def fill(self, *, retry: bool = False) -> None:
        """Put a waiting trial into every slot that has none.

        Args:
            retry: Whether slots whose trial failed by an error get another one, too.
        """
        winners = self._winners(retry=retry)
        for slot in range(self.total):
            if slot not in winners:
                self._enqueue(slot)

    def claim(self) -> Trial | None:
        """Take a waiting trial, or None when none waits."""
        from optuna.trial import Trial, TrialState

        for waiting in self.trials():
            if waiting.state != TrialState.WAITING or not self._take(waiting._trial_id):
                continue
            if self._is_double(waiting):
                self.fail(waiting._trial_id, DOUBLE)
                continue
            self.study.sampler = build_sampler(self._loaded.definition, slot=waiting.user_attrs[SLOT])
            # Optuna keeps the trials it has seen of the present trial; a new one begins here.
            self.study._thread_local.cached_all_trials = None
            return Trial(self.study, waiting._trial_id)
        return None

    def fail(self, trial_id: int, reason: str) -> None:
        """Fail a trial, unless somebody else finished it."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self.storage.set_trial_user_attr(trial_id, REASON, reason)
            self.storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except UpdateFinishedTrialError:
            return

    def _take(self, trial_id: int) -> bool:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            return self.storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def _is_double(self, claimed: FrozenTrial) -> bool:
        from optuna.trial import TrialState

        return any(
            trial.user_attrs[SLOT] == claimed.user_attrs[SLOT]
            and trial.number < claimed.number
            and trial.state != TrialState.FAIL
            for trial in self.trials()
        )

    def _winners(self, *, retry: bool = False) -> dict[int, FrozenTrial]:
        """The trial that counts for each slot; slots without one are open."""
        from optuna.trial import TrialState

        winners: dict[int, FrozenTrial] = {}
        failures: dict[int, list[FrozenTrial]] = {}
        for trial in self.trials():
            slot = trial.user_attrs[SLOT]
            if trial.state == TrialState.FAIL:
                failures.setdefault(slot, []).append(trial)
            else:
                winners.setdefault(slot, trial)
        for slot, failed in failures.items():
            tries = [trial for trial in failed if trial.user_attrs.get(REASON) not in (DOUBLE, INTERRUPTED)]
            errors = [trial for trial in tries if trial.user_attrs.get(REASON) != STALE]
            if slot not in winners and (len(tries) >= _MOST_TRIES or (errors and not retry)):
                winners[slot] = tries[-1]
        return winners

    def _enqueue(self, slot: int) -> None:
        from optuna.trial import TrialState, create_trial

        setting = BASELINES[slot] if slot < len(BASELINES) else None
        attributes: dict[str, Any] = {SLOT: slot} | ({SETTING: setting} if setting else {})
        fixed = self._baseline(setting) if setting else self._params_of_last(slot)
        system = {"fixed_params": fixed} if fixed else {}
        self.study.add_trial(create_trial(state=TrialState.WAITING, user_attrs=attributes, system_attrs=system))

    def _params_of_last(self, slot: int) -> Mapping[str, Any]:
        """A trial that is run again has the parameters that it had."""
        earlier = [trial.params for trial in self.trials() if trial.user_attrs[SLOT] == slot and trial.params]
        complete = [params for params in earlier if set(params) == set(self._loaded.definition.parameters)]
        return complete[-1] if complete else {}

    def _baseline(self, setting: str) -> Mapping[str, Any]:
        return baseline_params(self._loaded, setting)


def baseline_params(loaded: LoadedStudy, setting: str) -> dict[str, Any]:
    """What a baseline looks like to a sampler: the nearest values inside the study's ranges.

    Args:
        loaded: The study.
        setting: ``paper`` or ``default``.
    """
    assert setting in (PAPER, DEFAULT)
    definition: StudyDefinition = loaded.definition
    paper = paper_settings(definition.evaluations) if setting == PAPER else {}
    values = {key: paper.get(key, setting_of(loaded.problem, key)) for key in definition.parameters}
    params: dict[str, Any] = {}
    for key, section in definition.parameters.items():
        # An argument of an algorithm that is not set has no value to stand for it.
        first = (section.choices or (section.low,))[0]
        params[key] = first if values[key] is None else nearest_inside(key, section, values[key])
    return params


def wait(seconds: float, should_stop: Callable[[], bool], *, step: float = 0.2) -> None:
    """Sleep, but not past a wish to stop."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not should_stop():
        time.sleep(min(step, max(0.0, until - time.monotonic())))


def objective_values(trial: FrozenTrial, names: Sequence[str]) -> dict[str, float]:
    """The values of a finished trial by name; empty where it has none."""
    return dict(zip(names, trial.values, strict=True)) if trial.values is not None else {}
