"""The objective of a study: a plain function of an Optuna trial."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.config import Problem
from nas_llm.events import EventHandler, ignore
from nas_llm.studies._liveness import BEAT_SECONDS, heartbeat
from nas_llm.studies._lockstep import LockstepSearches
from nas_llm.studies._optuna import id_of_trial, require_optuna
from nas_llm.studies._slots import SETTING
from nas_llm.studies._workbench import Workbench
from nas_llm.studies.definition import PAPER, LoadedStudy, load_study, paper_settings, suggest, with_settings

if TYPE_CHECKING:
    from optuna import Trial

    from nas_llm.session import Resources

SETTINGS = "settings"
Suggest = Callable[["Trial"], Mapping[str, Any]]


class SearchObjective:
    """Searches with suggested settings, under the study's budget, and returns the hypervolume.

    Args:
        bench: What all trials share.
        suggest: Asks a trial for settings, dotted key of the problem to value; default: the study's parameters.
        should_stop: Polled between candidates; True ends the trial by :class:`~nas_llm.errors.Interrupted`.
        beat_seconds: Time between two signs of life in the storage.
    """

    def __init__(
        self,
        bench: Workbench,
        *,
        suggest: Suggest | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self.bench = bench
        self._suggest = suggest
        self._should_stop = should_stop
        self._beat_seconds = beat_seconds

    def __call__(self, trial: Trial) -> float | tuple[float, float]:
        """Run a trial.

        Returns:
            The normalised hypervolume, the mean over the seeds, and for a study of two objectives the mean seconds of
            a search.

        Raises:
            optuna.TrialPruned: If the pruner says so.
            Interrupted: If ``should_stop`` says so.
            NasLlmError: If the problem cannot be searched with these settings.
        """
        storage = getattr(trial, "storage", None)
        alive = nullcontext() if storage is None else heartbeat(storage, id_of_trial(trial), seconds=self._beat_seconds)
        with alive, tempfile.TemporaryDirectory(prefix="nas-llm-study-") as folder:
            return self._run(trial, Path(folder))

    def settings(self, trial: Trial) -> dict[str, Any]:
        """The settings of a trial: what differs from the study's problem."""
        suggested = dict(self._suggest(trial) if self._suggest else suggest(trial, self.bench.definition.parameters))
        setting = trial.user_attrs.get(SETTING)
        if setting is None:
            return suggested
        # A baseline is run as it is, even where the study's ranges do not reach it.
        return paper_settings(self.bench.definition.evaluations) if setting == PAPER else {}

    def _run(self, trial: Trial, folder: Path) -> float | tuple[float, float]:
        settings = self.settings(trial)
        trial.set_user_attr(SETTINGS, settings)
        definition = self.bench.definition
        problem: Problem = with_settings(self.bench.problem, settings, where=f"trial {trial.number}")
        self.bench.forget()
        began = time.monotonic()
        searches = LockstepSearches(self.bench, problem, definition.seeds, folder, should_stop=self._should_stop)
        self._search(trial, searches)
        values = {
            f"hypervolume seed {seed}": searches.hypervolume(definition.evaluations, seed=seed)
            for seed in definition.seeds
        }
        for key, value in (values | searches.counts() | {"wall seconds": round(time.monotonic() - began, 3)}).items():
            trial.set_user_attr(key, value)
        hypervolume = searches.hypervolume(definition.evaluations)
        if len(definition.objectives) == 1:
            return hypervolume
        return hypervolume, searches.seconds / len(definition.seeds)

    def _search(self, trial: Trial, searches: LockstepSearches) -> None:
        import optuna

        definition = self.bench.definition
        if len(definition.objectives) > 1:
            searches.advance(definition.evaluations)
            return
        by_seed = isinstance(getattr(getattr(trial, "study", None), "pruner", None), optuna.pruners.WilcoxonPruner)
        if by_seed:
            # This pruner compares trials instance by instance, and the instances here are the seeds.
            for step, seed in enumerate(definition.seeds):
                searches.advance(definition.evaluations, seeds=[seed])
                _report(trial, searches.hypervolume(definition.evaluations, seed=seed), step)
            return
        for evaluations in definition.steps:
            searches.advance(evaluations)
            _report(trial, searches.hypervolume(evaluations), evaluations)


def _report(trial: Trial, value: float, step: int) -> None:
    import optuna

    trial.report(value, step)
    if trial.should_prune():
        raise optuna.TrialPruned(f"hypervolume {value:.4f} at step {step}")


def make_objective(
    study: LoadedStudy | str | Path,
    *,
    suggest: Suggest | None = None,
    on_event: EventHandler = ignore,
    should_stop: Callable[[], bool] = lambda: False,
    resources: Resources | None = None,
    shared_cache: bool = True,
) -> SearchObjective:
    """The objective for an Optuna script of one's own: ``optuna_study.optimize(make_objective("tiny-llama"))``.

    Model, text and calibration are prepared here, once; the objective may be called any number of times.

    Args:
        study: A packaged study, a TOML file, or what :func:`load_study` or :func:`resolve_study` gave.
        suggest: Asks a trial for settings, dotted key of the problem to value, e.g.
            ``{"search.population": trial.suggest_int("population", 8, 32)}``; default: the study's parameters.
        on_event: Called with every event of the preparation.
        should_stop: Polled between candidates.
        resources: Threads and memory.
        shared_cache: Whether evaluations are shared with other processes and runs.

    Raises:
        NasLlmError: If the study or its problem cannot be used.
    """
    require_optuna("a study")
    loaded = study if isinstance(study, LoadedStudy) else load_study(study)
    bench = Workbench(
        loaded, on_event=on_event, should_stop=should_stop, resources=resources, shared_cache=shared_cache
    )
    return SearchObjective(bench, suggest=suggest, should_stop=should_stop)
