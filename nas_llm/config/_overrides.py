"""Dotted overrides, ``search.evaluations=100``, put into a definition before it is validated."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from nas_llm.errors import ConfigError
from nas_llm.plugins import anchored


def parse_override(text: str) -> tuple[str, Any]:
    """Split ``key=value`` and read the value as TOML; what is not TOML is taken as a string.

    Raises:
        ConfigError: If there is no ``=`` or a part of the key is empty.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not all(key.split(".")):
        raise ConfigError(f'--set {text!r} is not of the form key=value, e.g. "search.evaluations=100"')
    try:
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, _anchored(key, value)
    # A value that holds a line break could smuggle further keys in; then the whole text is meant.
    return key, _anchored(key, parsed["value"] if len(parsed) == 1 else value)


def apply_override(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested tables, making tables on the way.

    Raises:
        ConfigError: If a table is needed where a value stands.
    """
    *tables, leaf = key.split(".")
    node = data
    for depth, name in enumerate(tables):
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {key}: {'.'.join(tables[: depth + 1])} is a value, not a section")
        node = child
    node[leaf] = value


def _anchored(key: str, value: Any) -> Any:
    """Paths typed on a command line are relative to the working directory, not to the definition's folder."""
    if isinstance(value, dict):
        return {name: _anchored(name, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_anchored(key, item) for item in value]
    if not isinstance(value, str) or not value:
        return value
    value = anchored(value, Path.cwd())
    return str(Path(value).resolve()) if key.split(".")[-1] == "source" and Path(value).exists() else value
