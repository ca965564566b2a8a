"""Measuring models side by side: every number by one protocol, costs beside the dense model's in the same call."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from nas_llm.config import LatencySection, WorkloadSection
from nas_llm.data import ReportingText, packaged_sample, read_reporting_text
from nas_llm.errors import DataError, ModelError
from nas_llm.evaluation import ModelRow, TaskSuite, Workload, count_block_params
from nas_llm.events import EventHandler, ignore
from nas_llm.models import PACKAGED_MODELS, load_model, resolve_device
from nas_llm.runs import package_versions
from nas_llm.settings import EvaluationDefaults, SpaceDefaults
from nas_llm.workflow.evaluate._measure_model import ModelMeasure, Plan, free
from nas_llm.workflow.evaluate._predict import Predictions
from nas_llm.workflow.evaluate._subjects import Named, RunPoints, find_subjects
from nas_llm.workflow.evaluate._text_score import WindowCount

_DTYPE: torch.dtype = getattr(torch, EvaluationDefaults.dtype)


def evaluate_models(
    models: Sequence[str],
    *,
    text: str | Path | Sequence[str | Path] | None = None,
    window: int = EvaluationDefaults.window,
    windows: WindowCount = None,
    base: str | None = None,
    points: Sequence[str] = (),
    method: str | None = None,
    samples: int | None = None,
    model: str | None = None,
    tasks: Sequence[str] = (),
    include_path: Path | None = None,
    limit: int | None = None,
    latency: bool = False,
    memory: bool = False,
    workload: Workload | None = None,
    predict: WorkloadSection | None = None,
    device: str = EvaluationDefaults.device,
    dtype: torch.dtype = _DTYPE,
    on_event: EventHandler = ignore,
) -> list[ModelRow]:
    """Measure dense models, exports and points of runs.

    Args:
        models: Packaged names, hub names, directories, ``.gguf`` files, and run directories or their names inside
            ``runs/``.
        text: ``wikitext2``, ``ptb``, ``c4``, a local text file, or several; default, where neither tasks nor latency
            nor memory are asked for: the sample of its own text that ships with a packaged model.
        window: Tokens of a window; the windows do not overlap. MACs are counted at this length.
        windows: Number of windows from the beginning of each text, or ``"all"``; default as the literature takes them,
            all but for ``c4``.
        base: Dense model that inheriting ratios, speed and memory are taken against. Default: the dense model of the
            first run; for latency and memory else that of the first export, else the first of ``models``.
        points: Points of each run, as :func:`nas_llm.workflow.select_points` takes them; default: its knee.
        method: How they are finished; default: as the run says.
        samples: Calibration windows of the finish; default: as the run says.
        model: Where the dense model of the runs is now, if it was moved since they were searched.
        tasks: Tasks, groups and tags of lm-eval, and ``commonsense7``.
        include_path: A folder of task files; they come before lm-eval's own.
        limit: Documents of each task; default all.
        latency: Whether to time prefill and decoding.
        memory: Whether to measure peak memory and the KV cache.
        workload: What a model is put through for these two.
        predict: The same as a workload of a definition: what it takes is predicted, too, of the dense model, of points
            and of exports. Times of the dense model's sublayers are measured for it, or found in the cache folder.
        device: Where to run.
        dtype: Arithmetic, and type of the weights.
        on_event: Told what happens.

    Returns:
        One row a model. Where there is a run, or latency or memory are measured, the dense model has a row, too; it
        comes first unless it was named elsewhere.

    Raises:
        ModelError: If a model cannot be loaded.
        DataError: If there is no text, it is shorter than a window, or the data of a task cannot be had.
        ConfigError: If an argument is not usable, or lm-eval is asked for and not installed.
        RunError: If a run has no front, or its model or text changed.
        SelectionError: If a run has no such point.
    """
    target = resolve_device(device)
    subjects = find_subjects(models, points=points, method=method, samples=samples, model=model, on_event=on_event)
    runs = [subject for subject in subjects if isinstance(subject, RunPoints)]
    costs = latency or memory
    dense = _dense(subjects, base, needed=costs)
    # The one among the models, if it is there: then its files are read once.
    dense = next((subject for subject in subjects if isinstance(subject, Named) and subject == dense), dense)
    plan = Plan(
        texts=_texts(text, [*models, *([dense.source] if dense else [])], optional=bool(tasks) or costs),
        window=window,
        windows=windows,
        suite=TaskSuite(tasks, include_path=include_path, limit=limit) if tasks else None,
        latency=latency,
        memory=memory,
        workload=workload or Workload(),
        predictions=None,
        on_event=on_event,
    )
    for named in (*subjects, dense):
        # All names before anything is measured.
        if isinstance(named, Named):
            named.check()
    if predict is not None and dense is not None:
        plan = replace(plan, predictions=_predictions(predict, dense, subjects, target, dtype, on_event))
    if dense is not None and dense not in subjects and (runs or costs):
        subjects = [dense, *subjects]
    measure, rows = ModelMeasure(plan), dict[str, ModelRow]()
    if dense is not None:
        [loaded] = dense.load(target, dtype, on_event=on_event)
        if dense in subjects:
            rows[loaded.name] = measure.reference(loaded, [run.prepared.splits for run in runs])
        else:
            measure = ModelMeasure(plan, base_params=count_block_params(loaded.model))
        del loaded
    for subject in subjects:
        if subject == dense:
            continue
        splits = subject.prepared.splits if isinstance(subject, RunPoints) else None
        for loaded in subject.load(target, dtype, on_event=on_event):
            rows[loaded.name] = measure.beside(loaded, splits)
            del loaded
            free(target)
    if dense is not None and dense in subjects:
        rows[dense.source] = replace(rows[dense.source], speed=measure.reference_speed())
    return [rows[name] for subject in subjects for name in subject.names]


def measured_with() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    versions = package_versions()
    with suppress(PackageNotFoundError):
        versions["lm-eval"] = version("lm-eval")
    return versions


def _dense(subjects: Sequence[Named | RunPoints], base: str | None, *, needed: bool) -> Named | None:
    """The model that others are measured against."""
    runs = [subject for subject in subjects if isinstance(subject, RunPoints)]
    if base is not None:
        return Named(base)
    if runs:
        # Named as it is, where it is among the models.
        named = Named(runs[0].dense.source)
        return named if named in subjects else runs[0].dense
    if not needed:
        return None
    models = [subject for subject in subjects if isinstance(subject, Named)]
    return next((found for found in map(_base_of_export, models) if found is not None), models[0])


def _predictions(
    workload: WorkloadSection,
    dense: Named,
    subjects: Sequence[Named | RunPoints],
    device: torch.device,
    dtype: torch.dtype,
    on_event: EventHandler,
) -> Predictions:
    """Predicts subnets of the dense model, as the first run measures times, where there is one."""
    run = next((subject.run.problem for subject in subjects if isinstance(subject, RunPoints)), None)
    genomes = [genome for subject in subjects for genome in subject.genomes]
    return Predictions(
        load_model(dense.source, revision=dense.revision),
        workload,
        latency=LatencySection() if run is None else run.latency,
        ffn_multiple=SpaceDefaults.ffn_multiple if run is None else run.space.ffn_multiple,
        layout=next((genome.layout for genome in genomes if genome.layout.axes), None),
        device=device,
        dtype=dtype,
        on_event=on_event,
    )


def _base_of_export(export: Named) -> Named | None:
    """What an export says that it was made from, if that can still be found."""
    if export.provenance is None:
        return None
    found = Named(export.provenance["base_model"])
    with suppress(ModelError):
        _ = found.where
        return found
    return None


def _texts(
    text: str | Path | Sequence[str | Path] | None, models: Sequence[str], *, optional: bool
) -> list[ReportingText]:
    """Texts that were asked for; a packaged model's own sample where none was, and nothing else either."""
    names = [text] if isinstance(text, str | Path) else list(text or ())
    if names or optional:
        return [read_reporting_text(name) for name in names]
    for name in models:
        sample = packaged_sample(name) if name in PACKAGED_MODELS else None
        if sample is not None:
            return [read_reporting_text(sample)]
    raise DataError("no text to measure on; name one with --perplexity, e.g. --perplexity wikitext2, or a local file")
