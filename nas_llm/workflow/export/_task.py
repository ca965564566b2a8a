"""One point in one format: what it is made of, and whether a directory holds it already."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from nas_llm.errors import ExportError
from nas_llm.export import EXPORT_FORMATS, ExportFormat, WriteSettings
from nas_llm.files import read_json_object
from nas_llm.finishing import FinishPlan
from nas_llm.front import FrontPoint
from nas_llm.plugins import PluginUse
from nas_llm.runs import Run
from nas_llm.session import SubnetScores
from nas_llm.workflow.export._record import ExportRecord

COMPLETION_FILE = "export.json"
_SCHEMA = 1
_PERPLEXITIES = ("fitness_perplexity", "held_out_perplexity")


@dataclass(frozen=True, kw_only=True)
class ExportTask:
    """One point to be written in one format.

    Attributes:
        point: The point.
        format: The format.
        settings: What was chosen for it.
        plan: How its weights are finished.
        target: The directory to appear.
        identity: Everything that the bytes depend on, as plain data: two exports with equal identities are the same.
    """

    point: FrontPoint
    format: ExportFormat
    settings: WriteSettings
    plan: FinishPlan
    target: Path
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``p03/hf``."""
        return f"{self.point.id}/{self.format.name}"


def make_task(
    run: Run, plan: FinishPlan, point: FrontPoint, form: ExportFormat, chosen: WriteSettings, out: Path
) -> ExportTask:
    """The task of a run's point."""
    identity = {
        "genome": point.digest,
        "model_revision": run.front.model["revision"],
        "calibration": run.front.data["calibration"]["digest"],
        "reconstruction": plan.identity(),
        "dtype": chosen.dtype,
    }
    use = EXPORT_FORMATS.use(form.name)
    if use is not None:
        identity["format_code"] = use.to_dict()
    if chosen.pad and point.genome.cut_layers.size:
        identity["heads"] = "padded"
    if form.splits:
        identity["max_shard_size"] = chosen.max_shard_size
    target = out / point.id / form.name
    return ExportTask(point=point, format=form, settings=chosen, plan=plan, target=target, identity=identity)


def write_completion(
    task: ExportTask, directory: Path, *, scores: SubnetScores, reconstruction: Mapping[str, Any]
) -> ExportRecord:
    """Write the completion record into a directory that is otherwise finished.

    Args:
        task: What was done.
        directory: Where it lies before it is moved to the target.
        scores: Its perplexities.
        reconstruction: How its weights were finished, and on which text.
    """
    document = {
        "schema": _SCHEMA,
        "format": task.format.name,
        "point": task.point.id,
        "identity": dict(task.identity),
        "reconstruction": dict(reconstruction),
        "weights": weight_sizes(directory, task.format),
        "fitness_perplexity": scores.fitness,
        "held_out_perplexity": scores.held_out,
        "texts": dict(scores.texts),
    }
    (directory / COMPLETION_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return _record(task, document, already=False)


def finished(task: ExportTask) -> ExportRecord | None:
    """What an earlier call left at the target; None if nothing is there.

    Raises:
        ExportError: If something else is there: no finished export, one of another subnet or with other settings, or
            one whose weight files were damaged.
    """
    if not os.path.lexists(task.target):
        return None
    mend = "replace it with --force or export to another place with --out"
    document = read_completion(task.target)
    if document is None:
        raise ExportError(f"{task.target} exists and is no finished export of nas-llm; {mend}")
    changed = differing(document["identity"], task.identity)
    if changed:
        raise ExportError(f"{task.target} exists and was exported with {changed}; {mend}")
    found = weight_sizes(task.target, task.format)
    for file, size in document["weights"].items():
        if found.get(file) != size:
            now = f"has {found[file]} bytes" if file in found else "is missing"
            raise ExportError(f"{task.target} exists and is damaged: {file} {now}, {size} bytes were written; {mend}")
    return _record(task, document, already=True)


def read_completion(directory: Path) -> dict[str, Any] | None:
    """The completion record of an export; None where there is none, or one that is not whole."""
    document = read_json_object(directory / COMPLETION_FILE) or {}
    identity, weights = document.get("identity"), document.get("weights")
    whole = (
        document.get("schema") == _SCHEMA
        and isinstance(identity, dict)
        and isinstance(identity.get("genome"), str)
        and isinstance(identity.get("dtype"), str)
        and isinstance(weights, dict)
        and all(isinstance(size, int) for size in weights.values())
        and all(isinstance(document.get(key, ""), int | float | None) for key in _PERPLEXITIES)
    )
    return document if whole else None


def differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first difference between two identities, for a person; empty if there is none."""
    for key in dict.fromkeys((*now, *before)):
        old, new = before.get(key), now.get(key)
        if old != new:
            if key == "genome":
                return "another genome"
            if key in ("code", "format_code") and _is_code(old) and _is_code(new):
                what = str(now["method"]) if key == "code" else "version of the format"
                one, other = (PluginUse(reference=what, **code) for code in (old, new))
                return f"another {what} ({one}, it is now {other})"
            name = key.replace("_", " ")
            if isinstance(old, Mapping) and isinstance(new, Mapping):
                inner = differing(old, new)
                return inner if inner.startswith("another ") else f"{name} {inner}"
            return f"{name} {_plain(old)}, it is now {_plain(new)}"
    return ""


def _is_code(value: Any) -> TypeGuard[dict[str, str]]:
    """Whether something is what a plugin was told apart by."""
    return isinstance(value, dict) and value.keys() == {"version", "sha256"}


def weight_sizes(directory: Path, form: ExportFormat) -> dict[str, int]:
    """Weight files of an export with their bytes, all files where its format does not say which are."""
    return {
        path.relative_to(directory).as_posix(): path.stat().st_size
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != COMPLETION_FILE and path.name.endswith(form.suffixes or ("",))
    }


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " + ".join(str(item.get("source", item)) if isinstance(item, Mapping) else str(item) for item in value)
    return "unset" if value is None else str(value)


def _record(task: ExportTask, document: Mapping[str, Any], *, already: bool) -> ExportRecord:
    return ExportRecord(
        point=task.point,
        path=task.target,
        cost=task.point.cost,
        fitness_perplexity=document["fitness_perplexity"],
        held_out_perplexity=document["held_out_perplexity"],
        texts=document.get("texts", {}),
        format=task.format.name,
        dtype=task.settings.dtype,
        size=sum(document["weights"].values()),
        already=already,
    )
