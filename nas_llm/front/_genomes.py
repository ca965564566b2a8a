"""Genomes of what was found before, to begin another search with."""

from __future__ import annotations

import json
from pathlib import Path

from nas_llm.errors import NasLlmError, RunError, first_line
from nas_llm.front._front import Front
from nas_llm.front._json import FRONT_FILE
from nas_llm.space import GENOME_FILE, Genome


def read_genomes(path: Path) -> list[Genome]:
    """Genomes of an export, of a folder of exports, or of a run's front.

    Args:
        path: A directory with ``genome.bin`` (one export), or one with ``front.json``: a folder that ``nas-llm
            export`` wrote to (its finished exports), or a run directory (all points of its front).

    Returns:
        The genomes in the order of the front, none twice.

    Raises:
        RunError: If it is none of these, or damaged.
    """
    if (path / GENOME_FILE).is_file():
        return [load_genome(path)]
    index = path / FRONT_FILE
    if not index.is_file():
        missing = "" if path.is_dir() else ", there is no such directory"
        raise RunError(
            f"{path} holds no genomes{missing}; name an export (with {GENOME_FILE}), a folder of exports or a run "
            f"(with {FRONT_FILE})"
        )
    try:
        text = index.read_text(encoding="utf-8")
        front = Front.from_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"cannot read {index}: {first_line(error)}") from error
    exports = json.loads(text).get("exports")
    points = [point for point in front.points if exports is None or point.id in exports]
    if not points:
        raise RunError(f"{index} lists no points; finish the search or the export first")
    return list(dict.fromkeys(point.genome for point in points))


def load_genome(directory: Path) -> Genome:
    """The genome of one export.

    Raises:
        RunError: If the directory is no export of nas-llm, or its genome is damaged.
    """
    path = Path(directory) / GENOME_FILE
    try:
        return Genome.from_bytes(path.read_bytes())
    except FileNotFoundError as error:
        raise RunError(f"{directory} is no export of nas-llm: it has no {GENOME_FILE}") from error
    except (OSError, NasLlmError) as error:
        raise RunError(f"{path} cannot be read: {first_line(error)}") from error
