"""Plugins of installed packages, by the entry point group ``nas_llm.plugins``."""

from __future__ import annotations

import logging
from importlib import metadata

from nas_llm.errors import first_line

GROUP = "nas_llm.plugins"
"""The group; each entry names a module that registers what it brings when it is imported."""

logger = logging.getLogger(__name__)
_loaded: dict[str, str] = {}
_broken: dict[str, str] = {}


def load_entry_points() -> dict[str, str]:
    """Import every module that an installed package offers as a plugin, once a process.

    A plugin that does not load is passed over with a warning: it must not take the package down.

    Returns:
        Entry name to the reason, for those that did not load.
    """
    entries = metadata.entry_points(group=GROUP)
    for entry in entries:
        if entry.name in _loaded or entry.name in _broken:
            continue
        try:
            entry.load()
            _loaded[entry.name] = entry.value
        except Exception as error:  # whatever a stranger's module raises while it loads
            _broken[entry.name] = f"{type(error).__name__}: {first_line(error)}"
            logger.warning("plugin %s (%s) does not load: %s", entry.name, entry.value, _broken[entry.name])
    return {entry.name: _broken[entry.name] for entry in entries if entry.name in _broken}
