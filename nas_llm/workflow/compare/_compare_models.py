"""Measuring models on the same windows and setting them beside the first one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from nas_llm.data import ReportingText, WindowSet, read_reporting_text
from nas_llm.errors import ConfigError, DataError
from nas_llm.evaluation import TaskSuite, TextScore
from nas_llm.events import EventHandler, ignore
from nas_llm.models import resolve_device
from nas_llm.settings import EvaluationDefaults
from nas_llm.statistics import FEWEST_WINDOWS
from nas_llm.workflow.compare._fronts import Target, shared_targets
from nas_llm.workflow.compare._records import Comparison, Measured, compared_fronts, compared_group
from nas_llm.workflow.evaluate import (
    Loaded,
    Named,
    RunPoints,
    WindowCount,
    find_subjects,
    free,
    score_tasks,
    score_windows,
    text_windows,
)

_DTYPE: torch.dtype = getattr(torch, EvaluationDefaults.dtype)


def compare_models(
    models: Sequence[str],
    *,
    text: str | Path | None = None,
    window: int = EvaluationDefaults.window,
    windows: WindowCount = None,
    points: Sequence[str] = (),
    ratios: Sequence[float] = (),
    method: str | None = None,
    samples: int | None = None,
    model: str | None = None,
    tasks: Sequence[str] = (),
    include_path: Path | None = None,
    limit: int | None = None,
    device: str = EvaluationDefaults.device,
    dtype: torch.dtype = _DTYPE,
    on_event: EventHandler = ignore,
) -> Comparison:
    """Set models, points or fronts beside the first of them, by a paired bootstrap over the windows of a text.

    Several runs and nothing else are compared as fronts: at inheriting ratios that all of them cover, the best point
    of each at or below. In every other case each model is compared with the first, a run standing for its points.

    Args:
        models: Packaged names, hub names, directories, ``.gguf`` files, and run directories or their names inside
            ``runs/``.
        text: ``wikitext2``, ``ptb``, ``c4``, or a local text file; default for points of runs that have them in
            common: the held-out windows.
        window: Tokens of a window of the text; the windows do not overlap.
        windows: Number of windows, spread evenly over the text, or ``"all"``; default all, 256 of ``c4``.
        points: Points of each run, as :func:`nas_llm.workflow.select_points` takes them; default: fronts, or the knee.
        ratios: Inheriting ratios to compare fronts at; default: the runs' common targets, else a grid.
        method: How points are finished, ``none`` for inherited weights; default: as each run says.
        samples: Calibration windows of the finish; default: as each run says.
        model: Where the dense model of the runs is now, if it was moved since they were searched.
        tasks: Tasks, groups and tags of lm-eval, and ``commonsense7``, compared document by document.
        include_path: A folder of task files; they come before lm-eval's own.
        limit: Documents of each task; default all.
        device: Where to run.
        dtype: Arithmetic, and type of the weights.
        on_event: Told what happens.

    Raises:
        ConfigError: If there is nothing to compare with, an argument is not usable, or lm-eval is asked for and not
            installed.
        ModelError: If a model cannot be loaded.
        DataError: If there is no text, it has too few windows, or models read it by different tokenizers.
        RunError: If a run has no front, or its model or text changed.
        SelectionError: If a run has no such point, or fronts have no ratio in common.
    """
    target = resolve_device(device)
    subjects = find_subjects(
        models, points=points, method=method, samples=samples, model=model, repeated=True, on_event=on_event
    )
    runs = [subject for subject in subjects if isinstance(subject, RunPoints)]
    targets: list[Target] = []
    if len(runs) == len(subjects) > 1 and not points:
        targets = shared_targets([subject.run for subject in runs], ratios)
        runs = [
            RunPoints(
                subject.run,
                list({one.points[place].id: one.points[place] for one in targets}.values()),
                on_event=on_event,
            )
            for place, subject in enumerate(runs)
        ]
        subjects = [*runs]
    elif ratios:
        raise ConfigError("--ratio is for the fronts of two or more runs, without --point and other models")
    if sum(len(subject.names) for subject in subjects) < 2:
        raise ConfigError(
            f"there is nothing to compare {subjects[0].names[0]} with; name two or more models or runs, or points of a "
            f"run with --point"
        )
    for subject in subjects:
        # All names before anything is measured.
        if isinstance(subject, Named):
            subject.check()
    measure = _Measure(
        _text(text, subjects),
        TaskSuite(tasks, include_path=include_path, limit=limit, keep_documents=True) if tasks else None,
        window=window,
        windows=windows,
        on_event=on_event,
    )
    found: list[list[Measured]] = []
    for subject in subjects:
        found.append([])
        for loaded in subject.load(target, dtype, on_event=on_event):
            found[-1].append(measure(loaded, subject))
            del loaded
            free(target)
    if targets:
        at = [
            dict(zip((point.id for point in run.points), row, strict=True))
            for run, row in zip(runs, found, strict=True)
        ]
        groups = tuple(
            compared_group([row[point.id] for row, point in zip(at, one.points, strict=True)], target=one.ratio)
            for one in targets
        )
        fronts = compared_fronts([str(run.run.directory) for run in runs], groups)
    else:
        groups, fronts = (compared_group([one for row in found for one in row]),), ()
    score = found[0][0].score
    assert score.available is not None
    return Comparison(
        text=score.text,
        digest=score.digest,
        window=score.window,
        windows=score.windows,
        available=score.available,
        groups=groups,
        fronts=fronts,
    )


class _Measure:
    """Measures models on the same windows.

    Args:
        text: The text; None = held-out windows of the runs.
        suite: Tasks; None = none.
        window: Tokens of a window of a text.
        windows: Number of windows.
        on_event: Told what happens.
    """

    def __init__(
        self,
        text: ReportingText | None,
        suite: TaskSuite | None,
        *,
        window: int,
        windows: WindowCount,
        on_event: EventHandler,
    ) -> None:
        self._text, self._window, self._windows, self._on_event = text, window, windows, on_event
        self._suite = suite
        self._first: TextScore | None = None
        self._name = ""

    def __call__(self, loaded: Loaded, subject: Named | RunPoints) -> Measured:
        """Measure one model.

        Args:
            loaded: The model.
            subject: What it comes from.

        Raises:
            DataError: If there are too few windows, or others than those of the first model.
        """
        windows, name, available = self._cut(loaded, subject)
        count, length = windows.tokens.shape
        if count < FEWEST_WINDOWS:
            raise DataError(
                f"{name} gives {count} windows of {length} tokens, and error bars take {FEWEST_WINDOWS}; give a longer "
                f"text, a smaller --window or more --windows"
            )
        if self._first is not None and windows.digest() != self._first.digest:
            raise DataError(
                f"{self._name} and {loaded.name} read {name} by different tokenizers; perplexities of different tokens "
                f"cannot be compared"
            )
        score = score_windows(loaded, windows, text=name, available=available, on_event=self._on_event)
        if self._first is None:
            self._first, self._name = score, loaded.name
        return Measured(
            name=loaded.name,
            params=sum(parameter.numel() for parameter in loaded.model.parameters()),
            inheriting_ratio=loaded.inheriting_ratio,
            score=score,
            tasks=score_tasks(loaded, self._suite, on_event=self._on_event),
        )

    def _cut(self, loaded: Loaded, subject: Named | RunPoints) -> tuple[WindowSet, str, int]:
        """Windows, what they are of, and how many of them there are in all."""
        if self._text is not None:
            whole = text_windows(loaded.tokenizer, self._text, window=self._window, windows="all")
            most, name = self._windows or self._text.windows, self._text.name
        else:
            assert isinstance(subject, RunPoints)
            whole, most, name = subject.prepared.splits.held_out, self._windows, "held-out windows"
        available = len(whole.tokens)
        chosen = whole if most in (None, "all") else replace(whole, tokens=whole.tokens[_spread(available, int(most))])
        return chosen, name, available


def _spread(available: int, wanted: int) -> npt.NDArray[np.int64]:
    """Places of some windows, evenly over all: neighbours are alike, and the beginning is not like the rest."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(np.int64))


def _text(text: str | Path | None, subjects: Sequence[Named | RunPoints]) -> ReportingText | None:
    """The text; None = the held-out windows that all subjects have in common."""
    if text is not None:
        return read_reporting_text(text)
    held_out = {
        subject.run.front.data.get("held_out", {}).get("digest") if isinstance(subject, RunPoints) else None
        for subject in subjects
    }
    if len(held_out) == 1 and None not in held_out:
        return None
    raise DataError(
        "no text to compare on, and no held-out windows in common; name one with --text, e.g. --text wikitext2, or a "
        "local file"
    )
