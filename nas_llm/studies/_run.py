"""Running a study: this process, further ones, and what came of it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.errors import Interrupted, NasLlmError, StudyError
from nas_llm.events import EventHandler, Notice, ignore
from nas_llm.search import check_algorithm, check_operators
from nas_llm.settings import StudyDefaults
from nas_llm.space import CostConstraints
from nas_llm.studies._liveness import BEAT_SECONDS, Watch
from nas_llm.studies._objective import SETTINGS, SearchObjective
from nas_llm.studies._optimize import check_identity, name_in, open_study, optimize
from nas_llm.studies._optuna import is_there, require_optuna
from nas_llm.studies._samplers import build_pruner, build_sampler, every_point
from nas_llm.studies._slots import SETTING, Slots
from nas_llm.studies._storage import open_storage, shown
from nas_llm.studies._workbench import Workbench
from nas_llm.studies.definition import BASELINES, LoadedStudy, with_settings

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas_llm.session import Resources

logger = logging.getLogger(__name__)

_ALGORITHM = "search.algorithm"
_STOPPING = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, kw_only=True)
class TrialSummary:
    """One settled trial.

    Attributes:
        number: Optuna's number.
        state: ``complete``, ``pruned`` or ``failed``.
        values: Objective values, empty where it has none.
        settings: What it changed in the study's problem.
        label: ``paper``, ``default``, or empty for suggested settings.
    """

    number: int
    state: str
    values: tuple[float, ...]
    settings: Mapping[str, Any]
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class StudySummary:
    """What a storage holds of a study.

    Attributes:
        name: The study.
        storage: Where it is, without a password.
        objectives: Names of the values.
        total: Trials that were asked for.
        trials: The settled ones, by number.
        best: Index in ``trials`` of the one with the largest hypervolume, None while none is complete.
        interrupted: Whether somebody stopped it.
        seconds: Time of this call.
        exhausted: Whether its sampler has no combination left, so that ``total`` is not reached.
    """

    name: str
    storage: str
    objectives: tuple[str, ...]
    total: int
    trials: tuple[TrialSummary, ...]
    best: int | None
    interrupted: bool
    seconds: float
    exhausted: bool = False

    def labelled(self, label: str) -> TrialSummary | None:
        """The baseline of this name, if it is settled."""
        return next((trial for trial in self.trials if trial.label == label), None)


def run_study(
    loaded: LoadedStudy,
    *,
    storage: str | Path,
    resume: bool = False,
    trials: int | None = None,
    workers: int = StudyDefaults.workers,
    timeout: float | None = None,
    on_event: EventHandler = ignore,
    should_stop: Callable[[], bool] = lambda: False,
    resources: Resources | None = None,
    shared_cache: bool = True,
    beat_seconds: float = BEAT_SECONDS,
) -> StudySummary:
    """Run the trials of a study that are not settled yet, together with whoever else works on it.

    Args:
        loaded: The study, from :func:`nas_llm.studies.load_study`.
        storage: A path or URL; see :func:`nas_llm.studies.open_storage`.
        resume: Continue or join a study that is there.
        trials: Trials in all, over all processes and calls; default: what the definition says.
        workers: Processes on this machine, this one included.
        timeout: Seconds after which no trial begins.
        on_event: Called with every event.
        should_stop: Polled; True ends the present trial and returns.
        resources: Threads and memory of each process.
        shared_cache: Whether evaluations are shared with other processes and runs.
        beat_seconds: Time between two signs of life of a running trial.

    Raises:
        StudyError: If the storage or the study in it cannot be used.
        NasLlmError: If the problem cannot be prepared, or several trials in a row failed.
    """
    from nas_llm.session import Resources

    require_optuna("a study")
    started = time.monotonic()
    if trials is not None:
        loaded = replace(loaded, definition=loaded.definition.model_copy(update={"trials": trials}))
    definition = loaded.definition
    _check_numbers(definition.trials, workers, timeout)
    # Names and arguments are checked before minutes of preparation.
    build_sampler(definition)
    every_point(definition)
    build_pruner(definition)
    _check_search(loaded)
    opened = open_storage(storage)
    study = open_study(loaded, opened, url=str(storage), resume=resume)
    if study.study_name != definition.name:
        on_event(Notice(f"study {definition.name} is called {study.study_name} in its storage; going on with it"))
    slots = Slots(study, opened, loaded, total=definition.trials, watch=Watch(seconds=beat_seconds))
    resources = resources or Resources()
    if workers > 1 and resources.threads is None:
        resources = replace(resources, threads=max(1, (os.cpu_count() or 1) // workers))
    with resources.applied():
        try:
            bench = Workbench(
                loaded, on_event=on_event, should_stop=should_stop, resources=resources, shared_cache=shared_cache
            )
        except Interrupted:
            return _summary(slots, str(storage), loaded, interrupted=True, started=started)
        check_identity(study, bench.identity)
        deadline = None if timeout is None else started + timeout
        objective = SearchObjective(bench, should_stop=should_stop, beat_seconds=beat_seconds)
        options = {
            "timeout": timeout,
            "resources": resources,
            "shared_cache": shared_cache,
            "beat_seconds": beat_seconds,
        }
        helpers = _start(loaded, str(storage), workers - 1, options)
        try:
            optimize(slots, objective, definition, on_event=on_event, should_stop=should_stop, deadline=deadline)
        except KeyError as error:
            if is_there(study):
                raise
            raise StudyError(
                f"study {study.study_name} in {shown(storage)} was renamed or deleted while it ran; --resume goes on "
                f"with what is left of it"
            ) from error
        finally:
            _end(helpers, on_event, asked=should_stop())
    return _summary(slots, str(storage), loaded, interrupted=should_stop(), started=started)


def study_summary(loaded: LoadedStudy, storage: str | Path) -> StudySummary:
    """What a storage holds of a study, without running anything.

    Raises:
        StudyError: If the storage cannot be opened, or the study is not there or another one.
    """
    opened = open_storage(storage, create=False)
    if name_in(opened, loaded.definition, url=str(storage)) is None:
        raise StudyError(f"{shown(storage)} holds no study {loaded.definition.name}")
    study = open_study(loaded, opened, url=str(storage), resume=True)
    slots = Slots(study, opened, loaded, total=loaded.definition.trials)
    return _summary(slots, str(storage), loaded, interrupted=False, started=time.monotonic())


def _check_search(loaded: LoadedStudy) -> None:
    """Refuse what no search of any trial could begin with."""
    choices = loaded.definition.parameters.get(_ALGORITHM)
    names = (choices.choices if choices is not None else None) or (loaded.problem.search.algorithm,)
    for name in names:
        problem = with_settings(loaded.problem, {_ALGORITHM: name})
        check_algorithm(problem.search, CostConstraints(problem.bounds))
        check_operators(problem.search.operators)


def _check_numbers(trials: int, workers: int, timeout: float | None) -> None:
    if trials < 1:
        raise StudyError(f"--trials must be at least 1, got {trials}")
    if workers < 1:
        raise StudyError(f"--workers must be at least 1, got {workers}")
    if timeout is not None and not timeout > 0:
        raise StudyError(f"--timeout must be above 0 seconds, got {timeout:g}")


def _start(loaded: LoadedStudy, url: str, count: int, options: Mapping[str, Any]) -> list[BaseProcess]:
    # Not forked: torch's threads do not survive it.
    context = multiprocessing.get_context("spawn")
    helpers: list[BaseProcess] = []
    # Its own start would let signals through again.
    resource_tracker.ensure_running()
    # Until a helper can take Ctrl-C as a wish, which is seconds later, its signals wait.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        for _ in range(count):
            helper = context.Process(target=_help, args=(loaded, url, dict(options)))
            helper.start()
            helpers.append(helper)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return helpers


def _help(loaded: LoadedStudy, url: str, options: dict[str, Any]) -> None:
    """What a further process does; Ctrl-C reaches it as well."""
    asked = False

    def stop(*_: object) -> None:
        nonlocal asked
        asked = True

    import optuna

    from nas_llm.models import resolve_device
    from nas_llm.subnet import keep_freed_memory

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for number in _STOPPING:
        signal.signal(number, stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    try:
        if resolve_device(loaded.problem.model.device).type == "cpu":
            keep_freed_memory()
        run_study(loaded, storage=url, resume=True, should_stop=lambda: asked, **options)
    except NasLlmError as error:
        logger.warning("a worker of study %s gave up: %s", loaded.definition.name, error)
        raise SystemExit(2) from error


def _end(helpers: Sequence[BaseProcess], on_event: EventHandler, *, asked: bool) -> None:
    for helper in helpers:
        if asked:
            helper.terminate()
        helper.join()
        if helper.exitcode not in (0, None):
            on_event(Notice(f"a worker process ended with code {helper.exitcode}; its trial was left to the others"))


def _summary(slots: Slots, url: str, loaded: LoadedStudy, *, interrupted: bool, started: float) -> StudySummary:
    from optuna.trial import TrialState

    settled = sorted(slots.settled(), key=lambda trial: trial.number)
    complete = [index for index, trial in enumerate(settled) if trial.state == TrialState.COMPLETE]
    return StudySummary(
        name=loaded.definition.name,
        storage=shown(url),
        objectives=tuple(loaded.definition.objectives),
        total=slots.total,
        trials=tuple(_row(trial) for trial in settled),
        best=max(complete, key=lambda index: settled[index].values[0], default=None),
        interrupted=interrupted,
        seconds=time.monotonic() - started,
        exhausted=slots.is_exhausted(),
    )


def _row(trial: FrozenTrial) -> TrialSummary:
    from optuna.trial import TrialState

    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    label = trial.user_attrs.get(SETTING, "")
    assert not label or label in BASELINES
    return TrialSummary(
        number=trial.number,
        state=states.get(trial.state, "failed"),
        values=tuple(trial.values or ()),
        settings=trial.user_attrs.get(SETTINGS, {}),
        label=label,
    )
