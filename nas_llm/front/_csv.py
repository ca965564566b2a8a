"""A front as CSV, for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from nas_llm.errors import RunError
from nas_llm.files import write_atomic
from nas_llm.front._point import FrontPoint
from nas_llm.space import COST_NAMES


def write_front_csv(points: Sequence[FrontPoint], path: Path, *, quality: str, force: bool) -> None:
    """Write one row a point; per-layer shapes are space-separated counts.

    Args:
        points: The points in their order.
        path: The file.
        quality: The measured objective.
        force: Whether to overwrite it.

    Raises:
        RunError: If the file exists and ``force`` is not given, or it cannot be written.
    """
    rows = [_row(point, quality) for point in points]
    if path.exists() and not force:
        raise RunError(f"{path} exists; name another file or say --force")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def _row(point: FrontPoint, quality: str) -> dict[str, object]:
    found = {
        "id": point.id,
        "knee": int(point.knee),
        "generation": point.generation,
        f"search_{quality}": point.objectives[quality],
        "fitness_perplexity": point.fitness_perplexity,
        "held_out_perplexity": point.held_out_perplexity,
        **{f"perplexity_{kind}": value for kind, value in point.texts.items()},
        "uniform_held_out_perplexity": None if point.uniform is None else point.uniform.held_out_perplexity,
        **{name: getattr(point.cost, name) for name in COST_NAMES},
    }
    shape = {unit: " ".join(str(layer[unit]) for layer in point.layers) for unit in point.layers[0]}
    shape["digest"] = point.digest
    taken = found.keys() | shape.keys()
    further = {f"cost_{name}" if name in taken else name: value for name, value in point.cost.further.items()}
    return {**found, **further, **shape}
