"""How the chosen points of a run are finished: overrides, identity, and words for it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas_llm import display
from nas_llm.config import Problem, override_problem
from nas_llm.data import WindowSet
from nas_llm.errors import ConfigError
from nas_llm.runs import Run

# What the weights depend on, beside damping and text.
_SETTINGS: Mapping[str, tuple[str, ...]] = {
    "sequential": ("target", "step", "blend", "start", "token_weights", "refit_inputs"),
    "admm": ("rho", "iterations"),
}


def with_reconstruction(
    run: Run,
    *,
    method: str | None = None,
    samples: int | None = None,
    damping: float | Sequence[float] | None = None,
    target: str | float | None = None,
    step: float | None = None,
    blend: float | None = None,
) -> Run:
    """The same run, its points to be finished in another way.

    Args:
        run: The run.
        method: Instead of ``reconstruction.method``.
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
    values = {
        "method": method,
        "tokens": None if samples is None else samples * run.problem.data.window,
        "damping": damping,
        "target": target,
        "step": step,
        "blend": blend,
    }
    changed = {f"reconstruction.{key}": value for key, value in values.items() if value is not None}
    return replace(run, problem=override_problem(run.problem, changed))


def settings(problem: Problem) -> dict[str, Any]:
    """Everything of ``[reconstruction]`` that the weights depend on, as plain data."""
    split = problem.reconstruction_split
    return _how(problem) | ({} if split is None else split.model_dump(mode="json"))


def describe(problem: Problem, windows: WindowSet) -> dict[str, Any]:
    """Method, settings and text, as plain data.

    Args:
        problem: The definition.
        windows: What the points are finished with.
    """
    if problem.reconstruction.method == "none":
        return {"method": "none"}
    return _how(problem) | {"tokens": windows.num_tokens, "text": windows.describe()}


def as_options(problem: Problem) -> str:
    """What to say to ``nas-llm export`` for the same weights, whatever the run's own problem says."""
    split = problem.reconstruction_split
    samples = "" if split is None else f" --samples {split.tokens // problem.data.window}"
    return f"--method {problem.reconstruction.method}{samples}"


def in_words(problem: Problem, windows: WindowSet) -> str:
    """What became of the weights, for a person.

    Args:
        problem: The definition.
        windows: What the points are finished with.
    """
    section = problem.reconstruction
    if section.method == "none":
        return "inherited as they are"
    damping = " or ".join(f"{value:g}" for value in section.dampings)
    target = section.target if isinstance(section.target, str) else f"{section.target:g}"
    shares = f"step {section.step:g}, blend {section.blend:g}"
    how = {
        "sequential": f"sequentially (target {target}, damping {damping}, {shares})",
        "closed_form": f"in closed form (damping {damping})",
        "admm": f"by ADMM (rho {section.rho:g}, {section.iterations} iterations, damping {damping})",
    }[section.method]
    text = display.text_of(windows.describe())
    projections = "output projections"
    if section.method == "sequential" and section.refit_inputs:
        projections = "projections"
    return f"inherited, {projections} refitted {how} on {windows.num_tokens:,} tokens: {text}"


def _how(problem: Problem) -> dict[str, Any]:
    section = problem.reconstruction.model_dump(mode="json")
    names = ["method", "damping", *_SETTINGS.get(section["method"], ())]
    if isinstance(section["damping"], list):
        names.append("validation")
        # JSON has no infinity.
        section["damping"] = [value if math.isfinite(value) else "inf" for value in section["damping"]]
    return {name: section[name] for name in names}
