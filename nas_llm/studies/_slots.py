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
from nas_llm.studies._optuna import FIXED_PARAMS, id_of_trial, running_trial
from nas_llm.studies._samplers import build_sampler, every_point
from nas_llm.studies.definition import (
    BASELINES,
    DEFAULT,
    PAPER,
    StudyDefinition,
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
        self._points = every_point(loaded.definition)

    def trials(self) -> list[FrozenTrial]:
        """All trials that fill a slot, by number, doubles and failures included."""
        found = self.study.get_trials(deepcopy=False)
        return [trial for trial in found if trial.user_attrs.get(SLOT, self.total) < self.total]

    def settled(self) -> list[FrozenTrial]:
        """One finished trial for each slot that is done or given up."""
        return [winner for winner in self._winners().values() if winner.state.is_finished()]

    def is_busy(self) -> bool:
        """Whether somebody is at work on a slot, or one waits."""
        winners = self._winners()
        return any(
            not winner.state.is_finished() and not self._is_spare(slot, winners) for slot, winner in winners.items()
        )

    def is_exhausted(self) -> bool:
        """Whether every combination has been run that the study's sampler has; never for samplers that suggest."""
        from optuna.trial import TrialState

        if self._points is None:
            return False
        done = [
            self._combination(slot, winner)
            for slot, winner in self._winners().items()
            if winner.state in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        return all(point in done for point in self._points)

    def sweep(self) -> None:
        """Fail the trials whose process is gone; their slots are open again."""
        from optuna.trial import TrialState

        running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
        for trial in self._watch.stale(running):
            self.fail(id_of_trial(trial), STALE)

    def fill(self, *, retry: bool = False) -> None:
        """Put a waiting trial into every slot that has none, as far as there is something left to run.

        Args:
            retry: Whether slots whose trial failed by an error get another one, too.
        """
        winners = self._winners(retry=retry)
        for slot in range(self.total):
            if slot not in winners and not self._is_spare(slot, winners):
                self._enqueue(slot)
                winners = winners if self._points is None else self._winners(retry=retry)

    def claim(self) -> Trial | None:
        """Take a waiting trial, or None when none waits."""
        from optuna.trial import TrialState

        winners = self._winners()
        for waiting in self.trials():
            slot, number = waiting.user_attrs[SLOT], id_of_trial(waiting)
            if waiting.state != TrialState.WAITING or self._is_spare(slot, winners) or not self._take(number):
                continue
            if self._is_double(waiting):
                self.fail(number, DOUBLE)
                continue
            self.study.sampler = build_sampler(self._loaded.definition, slot=slot)
            point = self._point(slot)
            if point is not None and FIXED_PARAMS not in waiting.system_attrs:
                self.storage.set_trial_system_attr(number, FIXED_PARAMS, point)
            return running_trial(self.study, number)
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

    def _point(self, slot: int) -> Mapping[str, Any] | None:
        """The combination that a slot runs where the sampler runs each once; baselines are none of them."""
        if self._points is None or slot < len(BASELINES):
            return None
        return self._points[(slot - len(BASELINES)) % len(self._points)]

    def _combination(self, slot: int, trial: FrozenTrial) -> Mapping[str, Any] | None:
        """What a trial has run, or is going to; None for a baseline, which is not what its parameters say."""
        if SETTING in trial.user_attrs:
            return None
        return trial.system_attrs.get(FIXED_PARAMS) or trial.params or self._point(slot)

    def _is_spare(self, slot: int, winners: Mapping[int, FrozenTrial]) -> bool:
        """Whether the combination of a slot is run, or waited for, in another one."""
        from optuna.trial import TrialState

        point = self._point(slot)
        return point is not None and any(
            self._combination(other, winner) == point
            and (winner.state != TrialState.WAITING or (other < slot and self._point(other) == point))
            for other, winner in winners.items()
            if other != slot
        )

    def _enqueue(self, slot: int) -> None:
        from optuna.trial import TrialState, create_trial

        setting = BASELINES[slot] if slot < len(BASELINES) else None
        attributes: dict[str, Any] = {SLOT: slot} | ({SETTING: setting} if setting else {})
        fixed = self._baseline(setting) if setting else self._params_of_last(slot)
        system = {FIXED_PARAMS: fixed} if fixed else {}
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
