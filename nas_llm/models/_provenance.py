"""``nas_llm.json``: what an export says of itself, read by one rule."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from nas_llm.errors import ModelError, first_line

PROVENANCE_FILE = "nas_llm.json"

_NEEDED = {"base_model": "a name", "inheriting_ratio": "a number above 0"}
_TYPES: dict[str, tuple[type, str]] = {
    "base_revision": (str, "a string"),
    "weights": (str, "a string"),
    "problem": (str, "a string"),
    "point": (str, "a string"),
    "seed": (int, "a whole number"),
    "block_params": (int, "a whole number"),
    "sequence_length": (int, "a whole number"),
    "texts": (dict, "an object"),
    "perplexities": (dict, "an object"),
    "posttraining": (list, "a list"),
}


def read_provenance(directory: Path) -> dict[str, Any] | None:
    """What an export says of itself.

    Args:
        directory: The export.

    Returns:
        The document, of whose keys those that this package reads are of their types; ``base_model`` and
        ``inheriting_ratio`` are there. None if the directory holds no export of this package.

    Raises:
        ModelError: If the file cannot be read or is damaged; says where.
    """
    path = directory / PROVENANCE_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _damaged(path, f"it is no JSON ({first_line(error)})") from error
    if not isinstance(document, dict):
        raise _damaged(path, f"it should hold an object, not {_shown(document)}")
    for key, wanted in _NEEDED.items():
        if key not in document:
            raise _damaged(path, f"it has no {key}, {wanted}")
    base, ratio = document["base_model"], document["inheriting_ratio"]
    if not isinstance(base, str) or not base:
        raise _damaged(path, f"base_model should be {_NEEDED['base_model']}, not {_shown(base)}")
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < math.inf:
        raise _damaged(path, f"inheriting_ratio should be {_NEEDED['inheriting_ratio']}, not {_shown(ratio)}")
    for key, (kind, wanted) in _TYPES.items():
        value = document.get(key)
        if key in document and (not isinstance(value, kind) or isinstance(value, bool)):
            raise _damaged(path, f"{key} should be {wanted}, not {_shown(value)}")
    return document


def _damaged(path: Path, what: str) -> ModelError:
    return ModelError(f"{path} is damaged: {what}; export the point again, or put back the file that it had")


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
