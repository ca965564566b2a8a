"""The folder of a whole-front export: who may write there, what a killed call left, and its index."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas_llm import display
from nas_llm.errors import ExportError, RunError
from nas_llm.export import FORMATS
from nas_llm.files import write_atomic
from nas_llm.front import Front
from nas_llm.runs import PROBLEM_FILE, Run
from nas_llm.workflow.export._point import WORK_PREFIX
from nas_llm.workflow.export._task import read_completion

INDEX_FILE = "front.json"
TABLE_FILE = "README.md"
_MARK = "<!-- written by nas-llm export -->"


def check_folder(out: Path, run: Run) -> None:
    """Refuse a folder whose files would be lost.

    Raises:
        ExportError: If it is a file, a run directory, or holds a README or front of somebody else.
    """
    elsewhere = "name another place with --out"
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; {elsewhere}")
    if (out / PROBLEM_FILE).exists():
        raise ExportError(f"{out} is a run directory; {elsewhere}")
    table, index = out / TABLE_FILE, out / INDEX_FILE
    if table.exists() and not _read(table).startswith(_MARK):
        raise ExportError(f"{table} was not written by nas-llm export and would be lost; {elsewhere}")
    if index.exists():
        try:
            other = Front.from_json(_read(index))
        except RunError as error:
            raise ExportError(f"{index} is no index of exports and would be lost; {elsewhere}") from error
        for what, before, now in (
            ("problem", other.problem, run.front.problem),
            ("seed", other.seed, run.front.seed),
            ("model", other.model["revision"], run.front.model["revision"]),
        ):
            if before != now:
                raise ExportError(f"{out} holds exports of another run ({what} {before}, now {now}); {elsewhere}")


@contextmanager
def locked_folder(out: Path) -> Iterator[None]:
    """Hold an export folder, and sweep away what a killed call left half-written.

    The lock lies on the folder itself, leaves no file, and ends with its process.

    Raises:
        ExportError: If another process exports to it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    except OSError as error:
        raise ExportError(f"cannot write {out}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Some network file systems have no locks; there, two exports at once are the user's own care.
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise ExportError(
                    f"another process exports to {out}; wait for it or name another place with --out"
                ) from error
        _sweep(out)
        try:
            yield
        finally:
            # Of processes that were killed.
            _sweep(out)
    finally:
        os.close(descriptor)


def _sweep(out: Path) -> None:
    for leftover in out.glob(f"*/{WORK_PREFIX}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def remove_empty(out: Path, points: list[str]) -> None:
    """Take away folders that were made and stayed empty."""
    for folder in (*(out / point for point in points), out):
        try:
            folder.rmdir()
        except OSError:
            continue


def write_index(out: Path, run: Run) -> None:
    """Write ``front.json`` and ``README.md``: what is finished in a folder, from whichever call; if anything is.

    ``front.json`` is the run's front with one more key, ``exports``: point to format to what was written.

    Raises:
        RunError: If they cannot be written.
    """
    exports = _finished(out, run.front)
    if not exports and not (out / INDEX_FILE).exists():
        return
    document = json.loads(run.front.to_json()) | {"exports": exports}
    write_atomic(out / INDEX_FILE, json.dumps(document, indent=1))
    write_atomic(out / TABLE_FILE, _table(run.front, exports))


def _finished(out: Path, front: Front) -> dict[str, dict[str, Any]]:
    exports: dict[str, dict[str, Any]] = {}
    for point in front.points:
        # Also formats of others, which this process may not know.
        others = sorted({path.name for path in (out / point.id).glob("[a-z]*")} - set(FORMATS))
        for form in (*FORMATS, *others):
            document = read_completion(out / point.id / form)
            if document is None or document["identity"]["genome"] != point.digest:
                continue
            exports.setdefault(point.id, {})[form] = {
                "path": f"{point.id}/{form}",
                "dtype": document["identity"]["dtype"],
                **({"heads": "padded"} if document["identity"].get("heads") == "padded" else {}),
                "reconstruction": document.get("reconstruction"),
                "weights": document["weights"],
                "fitness_perplexity": document["fitness_perplexity"],
                "held_out_perplexity": document["held_out_perplexity"],
                "texts": document.get("texts", {}),
            }
    return exports


def _table(front: Front, exports: dict[str, dict[str, Any]]) -> str:
    rows = [
        f"| dense | {front.dense.cost.inheriting_ratio:.4f} | {front.dense.cost.macs_per_token:,} "
        f"| {front.dense.cost.params:,} | {display.perplexity(front.dense.fitness_perplexity)} "
        f"| {display.perplexity(front.dense.held_out_perplexity)} | | |"
    ]
    for point in front.points:
        for form, export in exports.get(point.id, {}).items():
            kind = f"{form}, {export['dtype']}{', padded heads' if 'heads' in export else ''}"
            rows.append(
                f"| {point.id}{' (knee)' if point.knee else ''} | {point.cost.inheriting_ratio:.4f} "
                f"| {point.cost.macs_per_token:,} | {point.cost.params:,} "
                f"| {display.perplexity(export['fitness_perplexity'])} "
                f"| {display.perplexity(export['held_out_perplexity'])} "
                f"| [{kind}]({export['path']}) | {display.size(sum(export['weights'].values()))} |"
            )
    texts = "\n".join(
        f"- {name.replace('_', '-')} perplexity: {display.text_of(front.data[name])}"
        for name in ("fitness", "held_out")
        if name in front.data
    )
    lines = "\n".join(rows)
    return f"""{_MARK}
# Subnets of {front.model["source"]}

Found by nas-llm: problem `{front.problem}`, seed {front.seed}. Model revision `{front.model["revision"]}`.

| point | inheriting ratio | MACs per token | parameters | fitness perplexity | held-out perplexity | format | weights |
|---|---|---|---|---|---|---|---|
{lines}

{texts}

Perplexities of formats other than `hf` are those of the weights before they were converted. `front.json` holds the
masks of every point; each folder says in its own files where it comes from.
"""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror or error}") from error
