"""What a sequential refit aims at."""

from __future__ import annotations

from collections.abc import Mapping

from nas_llm.errors import ConfigError

TARGETS: Mapping[str, float] = {"sublayer": 0.0, "residual": 1.0}
"""Share of the error upstream that a refit also tries to repair, by name."""


def upstream_share(target: str | float) -> float:
    """Share of the error upstream that a target asks to repair.

    Args:
        target: Key of :data:`TARGETS`, or the share itself.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(target, str):
        if target not in TARGETS:
            raise ConfigError(f"unknown target '{target}'; known are {', '.join(TARGETS)} and numbers from 0 to 1")
        return TARGETS[target]
    if not 0.0 <= target <= 1.0:
        raise ConfigError(f"target must be between 0 (sublayer) and 1 (residual), got {target}")
    return float(target)
