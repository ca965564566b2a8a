"""A search shown in an Optuna storage while it runs: one trial a genome, plots, a note, artifacts."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_llm.config import Problem
from nas_llm.errors import first_line
from nas_llm.events import CandidateEvaluated, Event, EventHandler, GenerationFinished, Notice, StageStarted, ignore
from nas_llm.runs import HISTORY_FILE, PROBLEM_FILE, fixed_part, read_problem
from nas_llm.search.engine import History
from nas_llm.space import Evaluation
from nas_llm.studies._storage import ARTIFACTS, JOURNAL_FILE, batched, open_storage
from nas_llm.studies.mirror._artifacts import attach_artifacts
from nas_llm.studies.mirror._plots import live_front, save_plots
from nas_llm.studies.mirror._trials import mirrored_trial, trial_of_search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage

    from nas_llm.workflow.search import RunSummary

RUN, BEGUN_AS = "run", "begun as"
# Plots are drawn anew only while this share of the time so far has not been spent on the mirror.
_SHARE = 0.01


class SearchMirror:
    """An event handler that copies a search into an Optuna study, for optuna-dashboard to show.

    Give it as ``on_event`` to :func:`nas_llm.workflow.run_search` and call :meth:`finish` with what came of it.
    A search never fails by its mirror: when the storage does, a notice says so and the search goes on alone.

    Args:
        problem: The problem.
        run_dir: The run directory; artifacts are kept there, and the journal file where no ``url`` is given.
        url: The storage, opened at once; None = ``study.journal`` in the run directory, made when the search begins.
        on_event: Called with every event first.
        clock: Seconds that only grow.

    Raises:
        StudyError: If the storage cannot be opened.

    Attributes:
        seconds: Time spent here so far.
    """

    def __init__(
        self,
        problem: Problem,
        run_dir: Path,
        *,
        url: str | Path | None = None,
        on_event: EventHandler = ignore,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.seconds = 0.0
        self._problem = problem
        self._run_dir = run_dir
        self._on_event = on_event
        self._clock = clock
        self._own = url is None
        self._storage: BaseStorage | None = None if url is None else open_storage(url)
        self._study: Study | None = None
        self._off = False
        self._began: float | None = None
        self._rows: dict[int, Evaluation] = {}
        self._written: set[int] = set()
        self._dense: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Pass an event on, then take it in."""
        self._on_event(event)
        match event:
            case StageStarted(stage="search"):
                self._guard(self._open)
            case CandidateEvaluated(evaluation=Evaluation() as row):
                self._rows[row.ordinal] = row
            case GenerationFinished():
                self._dense = dict(event.dense)
                self._guard(self._write)
                self._guard(lambda: self._draw(event.hypervolume))

    def finish(self, summary: RunSummary) -> None:
        """Write what is left: the last genomes, and for a finished search its plots and artifacts."""
        self._guard(self._write)
        if summary.front is not None:
            self._guard(lambda: self._complete(summary))

    def _guard(self, do: Callable[[], None]) -> None:
        if self._off:
            return
        began = self._clock()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                do()
        except Exception as error:
            # Drivers of databases have no common root, and no fault of theirs may end a search.
            self._off = True
            # A storage knows nothing any more of a study that was renamed.
            gone = isinstance(error, KeyError) and self._study is not None
            reason = "it was renamed or deleted" if gone else first_line(error)
            self._on_event(Notice(f"the search is no longer mirrored into its study: {reason}"))
        finally:
            self.seconds += self._clock() - began

    def _open(self) -> None:
        import optuna

        self._began = self._clock()
        if self._storage is None:
            self._storage = open_storage(self._run_dir / JOURNAL_FILE)
        run = self._identity()
        studies = {study.study_name: study.user_attrs for study in self._storage.get_all_studies()}
        title, is_new = self._title(studies, run)
        names: list[str] = list(self._problem.objective_names)
        study = optuna.create_study(
            study_name=title, storage=self._storage, directions=["minimize"] * len(names), load_if_exists=True
        )
        if study.metric_names is None:
            # It is new, or has lost them by a new name.
            study.set_metric_names(names)
        if is_new:
            study.set_user_attr(RUN, run)
            study.set_user_attr(BEGUN_AS, title)
            study.set_user_attr("problem", self._problem.name)
            study.set_user_attr("seed", self._problem.seed)
            self._save_note(study)
        self._study = study
        self._written = {trial_of_search(trial) for trial in study.get_trials(deepcopy=False)}
        self._read_history()

    def _title(self, studies: Mapping[str, Mapping[str, Any]], run: str) -> tuple[str, bool]:
        """The study of this run, and whether it has yet to be made.

        The dashboard can rename studies, and a run directory can be moved. In a storage of several runs one of the same
        problem, model and text in another directory has a study of its own, in the run's own journal none has.
        """
        name = self._run_dir.resolve().name
        same = {now: attributes for now, attributes in studies.items() if attributes.get(RUN) == run}
        for number in itertools.count(1):
            title = name if number == 1 else f"{name}-{number}"
            if title in same:
                return title, False
            renamed = [now for now, attributes in same.items() if attributes.get(BEGUN_AS) == title]
            if renamed:
                return renamed[0], False
            if title not in studies:
                break
        return (next(iter(same)), False) if same and self._own else (title, True)

    def _identity(self) -> str:
        """The same for a run and its resumptions, another for another problem, model or text."""
        problem, resolved = read_problem(self._run_dir)
        inputs = {key: getattr(resolved, key) for key in ("model_revision", "data", "device", "dtype")}
        text = json.dumps([fixed_part(problem), inputs], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _read_history(self) -> None:
        """What was evaluated before a resumption."""
        path = self._run_dir / HISTORY_FILE
        if path.is_file():
            with History(path, read_only=True) as history:
                self._rows |= {row.ordinal: row for row in history.rows()}

    def _save_note(self, study: Study) -> None:
        try:
            from optuna_dashboard import save_note
        except ImportError:
            return
        text = (self._run_dir / PROBLEM_FILE).read_text(encoding="utf-8")
        about = self._problem.description or self._problem.name
        assert self._storage is not None
        with batched(self._storage):
            save_note(
                study, f"**{self._problem.name}**: {about}\n\nThe problem as it was resolved:\n\n```toml\n{text}```\n"
            )

    def _write(self) -> None:
        if self._study is None or self._storage is None:
            return
        fresh = [ordinal for ordinal in sorted(self._rows) if ordinal not in self._written]
        with batched(self._storage):
            for ordinal in fresh:
                self._study.add_trial(mirrored_trial(self._rows[ordinal], self._problem))
                self._written.add(ordinal)

    def _draw(self, hypervolume: float) -> None:
        spent = self.seconds / max(1e-9, self._clock() - (self._began or 0.0))
        if self._study is None or self._storage is None or not self._dense or spent > _SHARE:
            return
        rows = [self._rows[ordinal] for ordinal in sorted(self._rows)]
        with batched(self._storage):
            save_plots(self._study, live_front(self._problem, rows, self._dense, hypervolume), rows)

    def _complete(self, summary: RunSummary) -> None:
        if self._study is None or self._storage is None or summary.front is None:
            return
        rows = [self._rows[ordinal] for ordinal in sorted(self._rows)]
        with batched(self._storage):
            save_plots(self._study, summary.front, rows)
        attach_artifacts(self._study, self._storage, self._run_dir / ARTIFACTS, summary)
