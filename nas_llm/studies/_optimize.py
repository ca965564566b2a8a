"""Opening a study in a storage, and the loop of one process that works on it."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from nas_llm.config import Problem
from nas_llm.errors import Interrupted, NasLlmError, StudyError
from nas_llm.events import EventHandler, Notice, TrialFinished
from nas_llm.runs import may_change
from nas_llm.studies._objective import SearchObjective
from nas_llm.studies._optuna import id_of_trial
from nas_llm.studies._slots import ERROR, INTERRUPTED, SETTING, Slots, objective_values, wait
from nas_llm.studies._storage import shown
from nas_llm.studies.definition import LoadedStudy, StudyDefinition, build_pruner, build_sampler

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

DEFINITION, IDENTITY, TOTAL = "definition", "identity", "trials"
# What may change while a study goes on: how many trials there are, and how the next ones are chosen. What its overrides
# do is seen in its problem.
_FREE = ("study.description", "study.trials", "study.sampler", "study.pruner", "study.set")
_POLL_SECONDS = 0.5
_MOST_ERRORS_IN_A_ROW = 3


def name_in(storage: BaseStorage, definition: StudyDefinition, *, url: str) -> str | None:
    """What a study is called in a storage: the dashboard can rename it. None where it is not.

    Raises:
        StudyError: If several studies there were begun under its name, and none bears it.
    """
    studies = storage.get_all_studies()
    if definition.name in {study.study_name for study in studies}:
        return definition.name
    renamed = [study.study_name for study in studies if _begun_as(study.user_attrs) == definition.name]
    if len(renamed) > 1:
        raise StudyError(
            f"{shown(url)} holds {len(renamed)} studies that were begun as {definition.name} ({', '.join(renamed)}), "
            f"and none of this name; give the one to go on with its name back"
        )
    return renamed[0] if renamed else None


def open_study(loaded: LoadedStudy, storage: BaseStorage, *, url: str, resume: bool) -> Study:
    """Create the study in a storage, or join it, by whatever name it bears there now.

    Raises:
        StudyError: If it is there and ``resume`` is not given, or its definition was another one.
    """
    import optuna

    definition = loaded.definition
    found = name_in(storage, definition, url=url)
    if found == definition.name and not resume:
        raise StudyError(
            f"study {definition.name} is in {shown(url)} already; continue or join it with --resume, or name another "
            f"storage"
        )
    directions: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]
    directions = directions[: len(definition.objectives)]
    try:
        study = optuna.create_study(
            study_name=found if found is not None and resume else definition.name,
            storage=storage,
            directions=directions,
            sampler=build_sampler(definition),
            pruner=build_pruner(definition),
            load_if_exists=True,
        )
    except ValueError as error:
        raise StudyError(f"study {definition.name} in {shown(url)} cannot be joined: {error}") from error
    before = study.user_attrs.get(DEFINITION)
    _check_same(before, definition_of(loaded), definition.name, url, len(study.directions), len(directions))
    if before is None:
        study.set_user_attr(DEFINITION, definition_of(loaded))
    if study.metric_names is None:
        # A renamed study has lost them.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.set_metric_names(list(definition.objectives))
    study.set_user_attr(TOTAL, definition.trials)
    return study


def check_identity(study: Study, identity: str) -> None:
    """Refuse to mix values of another model, text or arithmetic into a study.

    Raises:
        StudyError: If they differ from those of the study's first process.
    """
    before = study.user_attrs.get(IDENTITY)
    if before is None:
        study.set_user_attr(IDENTITY, identity)
    elif before != identity:
        was, now = (set(text.split("|")) for text in (before, identity))
        raise StudyError(
            f"study {study.study_name} was begun with other inputs (model, text or arithmetic: "
            f"{', '.join(sorted(was - now))}; here {', '.join(sorted(now - was))}); restore them or give the study "
            f"another name"
        )


def definition_of(loaded: LoadedStudy) -> str:
    """What a study is compared by, as JSON."""
    problem: Problem = loaded.problem
    document = {"study": loaded.definition.model_dump(mode="json"), "problem": problem.model_dump(mode="json")}
    return json.dumps(document, sort_keys=True)


def optimize(
    slots: Slots,
    objective: SearchObjective,
    definition: StudyDefinition,
    *,
    on_event: EventHandler,
    should_stop: Callable[[], bool],
    deadline: float | None = None,
) -> None:
    """Work on a study until all its slots are settled, by this process or others.

    Args:
        slots: The study's trials.
        objective: Runs one.
        definition: The study.
        on_event: Called with each finished trial, those of other processes included.
        should_stop: True ends the present trial and returns; its slot is open again.
        deadline: On ``time.monotonic``'s clock: no trial begins after it.

    Raises:
        NasLlmError: If several trials in a row failed by it.
    """
    told = {trial.number for trial in slots.settled()}
    errors = 0
    slots.sweep()
    slots.fill(retry=True)
    while not should_stop():
        if deadline is not None and time.monotonic() >= deadline:
            break
        slots.sweep()
        slots.fill()
        trial = slots.claim()
        if trial is None:
            _tell_finished(slots, definition, told, on_event)
            if not slots.is_busy():
                break
            wait(_POLL_SECONDS, should_stop)
            continue
        error = _run(slots, trial, objective)
        errors = errors + 1 if error is not None else 0
        _tell_finished(slots, definition, told, on_event)
        if error is not None:
            if errors >= _MOST_ERRORS_IN_A_ROW:
                raise error
            on_event(Notice(f"trial {trial.number} failed: {error}"))


def _run(slots: Slots, trial: Trial, objective: SearchObjective) -> NasLlmError | None:
    import optuna
    from optuna.trial import TrialState

    study = slots.study
    state, values = TrialState.FAIL, None
    reason: str | None = None
    failed: NasLlmError | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = objective(trial)
        state, values = TrialState.COMPLETE, list(found) if isinstance(found, tuple) else [found]
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except Interrupted:
        reason = INTERRUPTED
    except NasLlmError as error:
        failed, reason = error, f"{ERROR}: {error}"
    except BaseException as error:
        slots.fail(id_of_trial(trial), INTERRUPTED if isinstance(error, KeyboardInterrupt) else f"{ERROR}: {error!r}")
        raise
    if reason is not None:
        slots.fail(id_of_trial(trial), reason)
        return failed
    _tell(study, trial, values, state)
    return None


def _tell(study: Study, trial: Trial, values: list[float] | None, state: Any) -> None:
    from optuna.exceptions import UpdateFinishedTrialError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            study.tell(trial, values, state=state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        # This process was taken for dead, and the slot given to another one.
        return


def _tell_finished(slots: Slots, definition: StudyDefinition, told: set[int], on_event: EventHandler) -> None:
    from optuna.trial import TrialState

    settled = slots.settled()
    best = [trial.values[0] for trial in settled if trial.state == TrialState.COMPLETE]
    for trial in sorted(settled, key=_completion):
        if trial.number not in told:
            told.add(trial.number)
            on_event(
                TrialFinished(
                    number=trial.number,
                    state={TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed"),
                    done=len(told),
                    total=slots.total,
                    values=objective_values(trial, definition.objectives),
                    best=max(best, default=None),
                    label=trial.user_attrs.get(SETTING, ""),
                )
            )


def _completion(trial: FrozenTrial) -> tuple[float, int]:
    return (trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0, trial.number)


def _check_same(before: str | None, now: str, name: str, url: str, had: int, wants: int) -> None:
    if before is None:
        if had != wants:
            raise StudyError(f"study {name} in {shown(url)} has {had} objectives, the definition has {wants}")
        return
    old, new = _flat(json.loads(before)), _flat(json.loads(now))
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key) and not _may_change(key)]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        keys = ", ".join(f"{key} (was {old.get(key)!r}, now {new.get(key)!r})" for key in changed[:3])
        raise StudyError(
            f"study {name} in {shown(url)} was begun with another definition: {keys}{more}; undo the change or give "
            f"the study another name"
        )


def _begun_as(attributes: Mapping[str, Any]) -> str | None:
    """The name in the definition that a study was begun with."""
    text = attributes.get(DEFINITION)
    return None if text is None else str(json.loads(text)["study"]["name"])


def _may_change(key: str) -> bool:
    section, _, rest = key.partition(".")
    if section == "problem":
        # What a trial is worth is its hypervolume at this number of evaluations; a study knows no model revision.
        return may_change(rest) and rest not in ("search.evaluations", "model.source")
    return f"{key}.".startswith(tuple(f"{free}." for free in _FREE))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) and value else {f"{prefix}{key}": value}
    return flat
