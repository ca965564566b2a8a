"""A run whose points are to be finished in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas_llm.config import override_problem
from nas_llm.errors import ConfigError
from nas_llm.plugins import anchored, short_reference
from nas_llm.runs import Run


def with_reconstruction(
    run: Run,
    *,
    method: str | None = None,
    samples: int | None = None,
    damping: float | Sequence[float] | None = None,
    target: str | float | None = None,
    step: float | Sequence[float] | None = None,
    blend: float | Sequence[float] | None = None,
) -> Run:
    """The same run, its points to be finished in another way.

    Args:
        run: The run.
        method: Instead of ``reconstruction.method``; ``method_args`` go with it. A file is looked for in the working
            directory, then where the paths of the run's definition start.
        samples: Calibration windows, instead of ``reconstruction.tokens``.
        damping: Instead of ``reconstruction.damping``.
        target: Instead of ``reconstruction.target``.
        step: Instead of ``reconstruction.step``.
        blend: Instead of ``reconstruction.blend``.

    Raises:
        ConfigError: If a value is not usable.
    """
    if samples is not None and samples < 1:
        raise ConfigError(f"samples = {samples} should be at least 1")
    section = run.problem.reconstruction
    if method in (section.method, short_reference(section.method)):
        method = None
    elif method is not None:
        method = anchored(method, Path.cwd())
    values: dict[str, Any] = {
        "method": method,
        "tokens": None if samples is None else samples * run.problem.data.window,
        "damping": damping,
        "target": target,
        "step": step,
        "blend": blend,
    }
    if method is not None and section.method_args:
        values["method_args"] = {}
    changed = {f"reconstruction.{key}": value for key, value in values.items() if value is not None}
    return replace(run, problem=override_problem(run.problem, changed)) if changed else run
