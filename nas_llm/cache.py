"""Where converted models, sampled text, calibration and evaluations are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """The cache folder: ``$NAS_LLM_CACHE``, else ``nas-llm`` in the user's cache folder. It may be deleted any time."""
    override = os.environ.get("NAS_LLM_CACHE")
    if override:
        return Path(override).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nas-llm"
